"""FP16 for GPUs: which parts of the network are in half precision.

What the graph says is what TensorRT does (strong typing). FP32 stay the residual stream with its LayerNorms, softmax,
CLIP's norm, the last layers (a few thousand multiplications), and ``energy``: |a|^2 + 1 of 12,544 numbers can pass
FP16's 65,504, and coordination multiplies with it.
"""

from __future__ import annotations

from torch import Tensor, nn

from cocoer.network.levels import LevelEncoder
from cocoer.network.vi_head import VIHead


class Half(nn.Module):
    """A part in FP16 between FP32 neighbours; takes the module over."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part.half()

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        return self.part(*(x.half() for x in inputs), **{name: x.half() for name, x in named.items()}).float()


def halve_encoder(encoder: LevelEncoder) -> None:
    """Put a level encoder's trunk, attention and wide Linear layer in FP16, in place."""
    encoder.trunk, encoder.proj = Half(nn.Sequential(encoder.trunk, encoder.proj)), nn.Identity()  # type: ignore[assignment]
    for block in encoder.blocks:
        for name in ("cross_attn", "feed_forward"):
            setattr(block, name, Half(getattr(block, name)))
    encoder.classifier[1] = Half(encoder.classifier[1])


def halve_vi_head(head: VIHead) -> None:
    """Put the V-I head's CLIP tower and wide Linear layers in FP16, in place."""
    head.clip = Half(head.clip)  # type: ignore[assignment]
    for layer in (1, 3):
        head.ffn[layer] = Half(head.ffn[layer])
