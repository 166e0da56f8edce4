"""Fusion: the coordinated levels and the V-I feature of each person become the 26 final logits."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from cocoer.labels import EMOTIC_LABELS, LEVELS
from cocoer.network.architecture import CHANNELS
from cocoer.network.coordination import COORDINATION_STEP, LevelHead, coordinate
from cocoer.network.levels import LevelState


class FusionOutput(NamedTuple):
    """Rows are persons."""

    logits: Tensor
    """FP32 [P, 26]: the final prediction."""
    order: Tensor
    """INT64 [P, 3]: exclusion sequence, indices into ``LEVELS``."""
    losses: Tensor
    """FP32 [P, 3]: each level's loss against the V-I pseudo-label, in the order of ``LEVELS``."""
    lambda_w1: Tensor
    lambda_b1: Tensor
    lambda_w2: Tensor
    lambda_b2: Tensor
    grad_distance: Tensor
    """FP32 [P, 1]. For the lambdas see ``coordination.Coordination``."""
    refined_logits: Tensor
    """FP32 [P, 3, 26]: what head, body, context say after coordination (the release's ``label_<level>_refined``)."""
    features: Tensor
    """FP32 [P, 1024]: refined head, body and context features, V-I feature."""


class Fusion(nn.Module):
    """Competition, coordination and the global classifier (``cls_global_all``).

    Args:
        coordination_step: size of coordination's gradient step, at least 0.
    """

    def __init__(self, coordination_step: float = COORDINATION_STEP) -> None:
        super().__init__()
        self.coordination_step = coordination_step
        self.heads = nn.ModuleList(LevelHead() for _ in LEVELS)
        self.classifier = nn.Sequential(
            nn.GELU(),
            nn.LayerNorm(4 * CHANNELS),
            nn.Linear(4 * CHANNELS, CHANNELS),
            nn.GELU(),
            nn.LayerNorm(CHANNELS),
            nn.Linear(CHANNELS, CHANNELS),
            nn.GELU(),
            nn.LayerNorm(CHANNELS),
            nn.Linear(CHANNELS, len(EMOTIC_LABELS)),
        )

    def forward(
        self,
        head: LevelState,
        body: LevelState,
        context: LevelState,
        vi_logits: Tensor,
        vi_feature: Tensor,
        image_index: Tensor,
    ) -> FusionOutput:
        """Fuse P persons in I images.

        Args:
            head, body: P rows.
            context, vi_logits (FP32 [I, 26]), vi_feature (FP32 [I, 256]): I rows.
            image_index: INT64 [P], the image of each person.
        """
        context = LevelState(*(rows[image_index] for rows in context))
        heads = [cast(LevelHead, module) for module in self.heads]
        refined, losses, order, coordination = coordinate(
            [head, body, context], heads, vi_logits[image_index], self.coordination_step
        )
        refined_logits = torch.stack([end.linear(feature) for end, feature in zip(heads, refined)], dim=1)
        features = torch.cat([*refined, vi_feature[image_index]], dim=-1)
        return FusionOutput(self.classifier(features), order, losses, *coordination, refined_logits, features)
