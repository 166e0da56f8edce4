"""Image tower of CLIP RN50 (Radford et al., 2021): three-convolution stem, average-pooled strides, attention pool.

Attribute names follow OpenAI's checkpoint below ``visual.``.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from cocoer.network.architecture import RELEASE, TOKENS, Architecture


class AntialiasedBottleneck(nn.Module):
    """A bottleneck whose stride is an average pool after the (unstrided) 3x3 convolution, on both paths."""

    expansion = 4

    def __init__(self, in_channels: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = planes * self.expansion
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.avgpool: nn.Module = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            # "-1" is the pool's name in the checkpoint; it has no weights.
            self.downsample = nn.Sequential(
                OrderedDict(
                    [
                        ("-1", nn.AvgPool2d(stride)),
                        ("0", nn.Conv2d(in_channels, out_channels, 1, bias=False)),
                        ("1", nn.BatchNorm2d(out_channels)),
                    ]
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(self.avgpool(out)))
        return self.relu(out + self.downsample(x))


class AttentionPool(nn.Module):
    """Attention pooling: the mean of the 49 cells asks, the mean and the cells answer.

    Only the mean's output is ever used, so that keys and values need not exist: with q_h a head's query, its score for
    a token x is (K_h' q_h) x + q_h b_k (the last term is the same for all tokens and drops out of the softmax), and its
    answer V_h (sum of weight x) + b_v. A fiftieth of the products.
    """

    def __init__(self, cells: int, width: int, heads: int, out_features: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.zeros(cells + 1, width))
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, 7, 7] to [N, out_features], in the precision of the weights (softmax: FP32)."""
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1) + self.positional_embedding
        query = self.q_proj(tokens[:, 0]).unflatten(-1, (self.heads, -1)).transpose(0, 1)
        asked = (query @ self._by_head(self.k_proj.weight)).transpose(0, 1)
        scores = (asked @ tokens.transpose(-2, -1) * query.shape[-1] ** -0.5).float()
        weights = torch.softmax(scores, dim=-1).to(tokens.dtype)
        answers = (weights @ tokens).transpose(0, 1) @ self._by_head(self.v_proj.weight).transpose(-2, -1)
        return self.c_proj(answers.transpose(0, 1).flatten(1) + self.v_proj.bias)

    def _by_head(self, weight: Tensor) -> Tensor:
        """[width, width] to [heads, width / heads, width]."""
        return weight.unflatten(0, (self.heads, -1))


def _stage(in_channels: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    layers = [AntialiasedBottleneck(in_channels, planes, stride)]
    layers += [AntialiasedBottleneck(planes * AntialiasedBottleneck.expansion, planes) for _ in range(blocks - 1)]
    return nn.Sequential(*layers)


class ClipVisual(nn.Module):
    """CLIP RN50's image embedding, divided by its L2 norm."""

    def __init__(self, architecture: Architecture = RELEASE) -> None:
        super().__init__()
        planes, blocks = architecture.clip_planes, architecture.clip_blocks
        self.conv1 = nn.Conv2d(3, planes // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes // 2)
        self.conv2 = nn.Conv2d(planes // 2, planes // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes // 2)
        self.conv3 = nn.Conv2d(planes // 2, planes, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes)
        self.avgpool = nn.AvgPool2d(2)
        self.relu = nn.ReLU()
        self.layer1 = _stage(planes, planes, blocks[0], stride=1)
        self.layer2 = _stage(4 * planes, 2 * planes, blocks[1], stride=2)
        self.layer3 = _stage(8 * planes, 4 * planes, blocks[2], stride=2)
        self.layer4 = _stage(16 * planes, 8 * planes, blocks[3], stride=2)
        self.attnpool = AttentionPool(TOKENS, 32 * planes, architecture.clip_heads, architecture.embedding)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, 224, 224] (normalised), in the precision of the weights, to unit vectors FP32 [N, embedding]."""
        x = self.relu(self.bn1(self.conv1(image)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.avgpool(self.relu(self.bn3(self.conv3(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        feature = self.attnpool(x).float()
        # Not F.normalize: its export reads the batch's size off the pixels, which TensorRT can't.
        return feature / feature.norm(dim=-1, keepdim=True).clamp_min(1e-12)
