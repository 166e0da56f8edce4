"""ResNet-50 trunk of a level encoder (He et al., 2016; stride on the 3x3 convolution, as in torchvision).

The trunk is an ``nn.Sequential`` whose indices are those of the official checkpoint:
0 conv1, 1 bn1, 2 relu, 3 maxpool, 4..7 layer1..layer4.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """1x1 reduce, 3x3 (strided), 1x1 expand by four, plus the shortcut."""

    expansion = 4

    def __init__(self, in_channels: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = planes * self.expansion
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + self.downsample(x))


def residual_stage(in_channels: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    """One of layer1..layer4: ``blocks`` bottlenecks, the first of them strided."""
    layers = [Bottleneck(in_channels, planes, stride)]
    layers += [Bottleneck(planes * Bottleneck.expansion, planes) for _ in range(blocks - 1)]
    return nn.Sequential(*layers)


def resnet_trunk(planes: int = 64, blocks: Sequence[int] = (3, 4, 6, 3)) -> nn.Sequential:
    """FP32 [N, 3, 224, 224] (normalised) to FP32 [N, 32 * planes, 7, 7]; the defaults are ResNet-50's.

    Args:
        planes: of the first stage; each of the next three has twice as many.
        blocks: bottlenecks of each stage.
    """
    stages, channels = [], planes
    for index, count in enumerate(blocks):
        stages.append(residual_stage(channels, planes << index, count, stride=1 if index == 0 else 2))
        channels = (planes << index) * Bottleneck.expansion
    return nn.Sequential(
        nn.Conv2d(3, planes, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(planes),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        *stages,
    )
