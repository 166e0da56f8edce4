"""The three level encoders: crop -> trunk -> tokens -> cross-level attention -> classifier.

An encoder hands the fusion three small tensors instead of its 12,544-wide activation ``a``: ``hidden`` (the
classifier's first Linear, before GELU), ``logits`` and ``energy`` = |a|^2 + 1. Coordination needs no more (see
``coordination.py``).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from cocoer.labels import EMOTIC_LABELS
from cocoer.network.architecture import CHANNELS, RELEASE, TOKENS, Architecture
from cocoer.network.attention import CrossLevelBlock
from cocoer.network.position import GridPosition
from cocoer.network.resnet import resnet_trunk


class LevelState(NamedTuple):
    """What a level encoder knows of N crops."""

    hidden: Tensor
    """FP32 [N, 256]: output of the classifier's first Linear, before GELU."""
    logits: Tensor
    """FP32 [N, 26]: the level's own prediction, before coordination."""
    energy: Tensor
    """FP32 [N, 1]: |a|^2 + 1, with a the classifier's 12,544-wide activation."""


class LevelEncoder(nn.Module):
    """What the three levels share. Attribute names are ours; ``checkpoints/keys.py`` maps the checkpoint's to them."""

    def __init__(self, architecture: Architecture = RELEASE) -> None:
        super().__init__()
        self.trunk = resnet_trunk(architecture.trunk_planes, architecture.trunk_blocks)
        self.proj = nn.Conv2d(32 * architecture.trunk_planes, CHANNELS, 1)
        self.position = GridPosition()
        self.blocks = nn.ModuleList(CrossLevelBlock() for _ in range(3))
        self.norm = nn.LayerNorm(CHANNELS)
        self.classifier = nn.Sequential(
            nn.GELU(),
            nn.Linear(TOKENS * CHANNELS, CHANNELS),
            nn.GELU(),
            nn.LayerNorm(CHANNELS),
            nn.Linear(CHANNELS, len(EMOTIC_LABELS)),
        )

    def tokenise(self, image: Tensor) -> Tensor:
        """FP32 [N, 3, 224, 224] (normalised) to tokens FP32 [N, 49, 256], row-major."""
        return self.proj(self.trunk(image)).flatten(2).transpose(1, 2)

    def classify(self, tokens: Tensor) -> LevelState:
        """Encoded tokens FP32 [N, 49, 256] to the level's state."""
        activation = F.gelu(self.norm(tokens).flatten(1))
        hidden = self.classifier[1](activation)
        logits = self.classifier[2:](hidden)
        energy = activation.square().sum(dim=1, keepdim=True) + 1
        return LevelState(hidden, logits, energy)


class ContextEncoder(LevelEncoder):
    """The context level: the whole image, attending to itself; once per image."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """FP32 [I, 3, 224, 224] to (tokens FP32 [I, 49, 256] for the other levels, \\*LevelState)."""
        tokens = self.tokenise(image)
        position = self.position.tokens()
        x = tokens
        for block in self.blocks:
            x = block(x, position, x, position)
        return tokens, *self.classify(x)


class PersonEncoder(LevelEncoder):
    """The head or the body level: a person's crop, attending to the context; once per person."""

    def forward(self, crop: Tensor, box: Tensor, context_tokens: Tensor) -> LevelState:
        """Encode P crops.

        Args:
            crop: FP32 [P, 3, 224, 224], normalised.
            box: FP32 [P, 4], the crop's (x1, y1, x2, y2) in the image scaled to the 224 square.
            context_tokens: FP32 [P, 49, 256], the tokens of each person's image, before the context's own blocks.
        """
        x = self.tokenise(crop)
        x_pos = self.position.roi_tokens(box)
        y_pos = self.position.tokens()
        for block in self.blocks:
            x = block(x, x_pos, context_tokens, y_pos)
        return self.classify(x)
