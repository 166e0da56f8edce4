"""The vocabulary-informed (V-I) head: CLIP's view of the whole image, as pseudo-label and as a fourth feature."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cocoer.labels import EMOTIC_LABELS
from cocoer.network.architecture import CHANNELS, RELEASE, Architecture
from cocoer.network.clip_visual import ClipVisual

REPEATS = len(EMOTIC_LABELS)
"""The release repeats the aligned embedding once for each label."""


def fold_repeats(weight: Tensor) -> Tensor:
    """Fold ``VI_ffn.1.weight`` FP32 [6656, 26 * 1024] to FP32 [6656, 1024].

    The layer's input is the same 1,024 numbers 26 times over, so that the sum of its 26 column blocks does the
    same with 680 MB less. Summed in float64, rounded once.
    """
    blocks = weight.unflatten(1, (REPEATS, -1))
    # In slices of rows: a float64 copy of the whole would take 1.4 GB.
    return torch.cat([rows.double().sum(dim=1).to(weight.dtype) for rows in blocks.split(512)])


class VIHead(nn.Module):
    """CLIP image tower, alignment matrix ``W``, and the folded ``VI_ffn``."""

    def __init__(self, architecture: Architecture = RELEASE) -> None:
        super().__init__()
        embedding, hidden = architecture.embedding, architecture.vi_hidden
        self.clip = ClipVisual(architecture)
        self.alignment = nn.Linear(embedding, embedding, bias=False)
        self.ffn = nn.Sequential(
            nn.GELU(),
            nn.Linear(embedding, hidden),
            nn.GELU(),
            nn.Linear(hidden, CHANNELS),
            nn.GELU(),
            nn.Linear(CHANNELS, len(EMOTIC_LABELS)),
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """FP32 [I, 3, 224, 224] (normalised) to V-I logits FP32 [I, 26] and V-I feature FP32 [I, 256]."""
        feature = self.ffn[:5](self.alignment(self.clip(image)))
        return self.ffn[5](feature), feature
