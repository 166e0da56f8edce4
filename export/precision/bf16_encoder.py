"""The form of a level encoder that loses least in bf16.

OpenVINO decides by the graph what it computes in bf16: every convolution and matrix product, and what lies in front of
one. So the last layer is no matrix product here, the attention's small ones have both halves of their weights, and the
trunk's weights are rounded here rather than there. ``docs/tuning.md`` has what each of these gains.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cocoer.network.attention import CrossLevelBlock
from cocoer.network.levels import LevelEncoder
from cocoer.network.resnet import Bottleneck

MANTISSA = 8
"""Bits of bf16's, with the one that is not stored."""


def rounded(x: Tensor) -> Tensor:
    """The nearest bf16 numbers, FP32."""
    return x.bfloat16().float()


def balanced(weight: Tensor) -> Tensor:
    """Weights as bf16 numbers (in FP32), so that every filter's sum stays what it is.

    Rounded to the nearest, a filter's sum is off by some amount, and its output by that times the mean of its input,
    which behind a ReLU is not 0. Those weights that lie nearest to the middle of two bf16 numbers are rounded the other
    way until the sum is right.

    Args:
        weight: FP32 [filters, ...].
    """
    w = weight.flatten(1)
    nearest = rounded(w)
    error = nearest - w
    spacing = torch.ldexp(torch.ones_like(w), torch.frexp(w).exponent - MANTISSA)
    other = nearest - torch.sign(error) * spacing
    total = error.sum(1, keepdim=True)
    change = other - nearest
    helps = torch.sign(change) == -torch.sign(total)
    worse = ((other - w).abs() - error.abs()) / spacing
    cheapest = torch.where(helps, worse, torch.inf).argsort(1)
    changes = torch.where(helps, change, 0.0).gather(1, cheapest)
    taken = (changes.cumsum(1).abs() <= total.abs()) & (changes != 0)
    return torch.where(torch.zeros_like(taken).scatter(1, cheapest, taken), other, nearest).view_as(weight)


class SplitLinear(nn.Module):
    """A Linear whose weights are sums of two bf16 numbers, which have 16 bits: one product over twice the channels."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        high = rounded(linear.weight.data)
        self.both = nn.Linear(2 * linear.in_features, linear.out_features)
        self.both.weight.data = torch.cat([high, linear.weight.data - high], dim=1)
        self.both.bias.data = linear.bias.data

    def forward(self, x: Tensor) -> Tensor:
        return self.both(torch.cat([x, x], dim=-1))


class SummedLinear(nn.Module):
    """A Linear written out as products and their sum, which OpenVINO takes for no matrix product and keeps in FP32.

    For small ones: all products are there at once. The bias is a part of each of them, because OpenVINO 2026.4.1 adds
    one to the sum of the wrong row where a batch has more than one.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight: Tensor
        self.share: Tensor
        self.register_buffer("weight", linear.weight.data)
        self.register_buffer("share", linear.bias.data[:, None] / linear.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """FP32 [N, in] to FP32 [N, out]."""
        return (x[:, None] * self.weight + self.share).sum(-1)


def suit_encoder(encoder: LevelEncoder) -> None:
    """Give an encoder in eval mode this form, in place; in FP32 it computes the same but for its rounded weights."""
    trunk = encoder.trunk
    trunk[0], trunk[1] = _folded(trunk[0], trunk[1]), nn.Identity()
    for block in trunk.modules():
        if isinstance(block, Bottleneck):
            for index in (1, 2, 3):
                conv, norm = getattr(block, f"conv{index}"), getattr(block, f"bn{index}")
                setattr(block, f"conv{index}", _folded(conv, norm))
                setattr(block, f"bn{index}", nn.Identity())
            if isinstance(block.downsample, nn.Sequential):
                block.downsample = _folded(*block.downsample)
    for layer in (encoder.proj, cast(nn.Linear, encoder.classifier[1])):
        layer.weight.data = balanced(layer.weight.data)
    for level in encoder.blocks:
        assert isinstance(level, CrossLevelBlock)
        attention = level.cross_attn
        attention.linears = nn.ModuleList(SplitLinear(cast(nn.Linear, linear)) for linear in attention.linears)
    encoder.classifier[4] = SummedLinear(cast(nn.Linear, encoder.classifier[4]))


def _folded(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    """A convolution with its norm's scale and shift, and balanced weights."""
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    folded = fuse_conv_bn_eval(conv, norm)
    folded.weight.data = balanced(folded.weight.data)
    return folded
