"""Cross-level attention: a level's tokens look at the context's (CocoER, section 3; ``encoder1..3`` of the release)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cocoer.network.architecture import CHANNELS


class CrossAttention(nn.Module):
    """Multi-head attention written out; ``linears`` are the query, key, value and output projections."""

    def __init__(self, channels: int = CHANNELS, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.linears = nn.ModuleList(nn.Linear(channels, channels) for _ in range(4))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[N, T, C] each (N may be 1 for key and value) to [N, T, C], of the weights' precision (softmax: FP32)."""
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, x in zip(self.linears, (query, key, value))
        )
        scores = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).float()
        weights = torch.softmax(scores, dim=-1).to(v.dtype)
        return self.linears[3]((weights @ v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with ``swish(t) = t * sigmoid(t)`` between them."""

    def __init__(self, channels: int = CHANNELS, hidden: int = 1024) -> None:
        super().__init__()
        self.w_1 = nn.Linear(channels, hidden)
        self.w_2 = nn.Linear(hidden, channels)
        self.swish = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(self.swish(self.w_1(x)))


class CrossLevelBlock(nn.Module):
    """One pre-norm block: the level's tokens ``x`` attend to the context's tokens ``y``.

    The value is ``y`` without its norm; query and key carry positions. This is the release's form.
    """

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        self.cross_attn = CrossAttention(channels)
        self.feed_forward = FeedForward(channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, x_pos: Tensor, y: Tensor, y_pos: Tensor) -> Tensor:
        """All FP32 [N, 49, 256] (positions may have N = 1); returns the new ``x``."""
        x = x + self.cross_attn(query=self.norm1(x) + x_pos, key=self.norm3(y) + y_pos, value=y)
        return x + self.feed_forward(self.norm2(x))
