"""The whole network, as the paper's figure has it; its parts are what the server runs."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from cocoer.network.architecture import RELEASE, Architecture
from cocoer.network.coordination import COORDINATION_STEP
from cocoer.network.fusion import Fusion, FusionOutput
from cocoer.network.levels import ContextEncoder, LevelState, PersonEncoder
from cocoer.network.vi_head import VIHead


class Weights(Protocol):
    """What the network is built from: a ``cocoer.checkpoints.Checkpoint``."""

    @property
    def architecture(self) -> Architecture: ...

    def part(self, name: str) -> dict[str, Tensor]:
        """state_dict of a part, by the part's name in ``CocoER``."""
        ...


class CocoER(nn.Module):
    """CocoER in evaluation mode, for P persons in I images; context and V-I run once per image.

    Args:
        architecture: widths and depths.
        coordination_step: see ``Fusion``.
    """

    def __init__(self, architecture: Architecture = RELEASE, coordination_step: float = COORDINATION_STEP) -> None:
        super().__init__()
        self.context_encoder = ContextEncoder(architecture)
        self.head_encoder = PersonEncoder(architecture)
        self.body_encoder = PersonEncoder(architecture)
        self.vi_head = VIHead(architecture)
        self.fusion = Fusion(coordination_step)

    @classmethod
    def from_checkpoint(cls, checkpoint: Weights, coordination_step: float = COORDINATION_STEP) -> CocoER:
        """Build with the tensors of a checkpoint (shared, not copied), in eval mode, without gradients."""
        with torch.device("meta"):
            model = cls(checkpoint.architecture, coordination_step)
        for name, part in model.named_children():
            part.load_state_dict(checkpoint.part(name), strict=True, assign=True)
        return model.eval().requires_grad_(False)

    def forward(
        self,
        images: Tensor,
        head_crops: Tensor,
        head_boxes: Tensor,
        body_crops: Tensor,
        body_boxes: Tensor,
        image_index: Tensor,
    ) -> tuple[FusionOutput, LevelState, LevelState, LevelState, Tensor]:
        """Predict.

        Args:
            images: FP32 [I, 3, 224, 224], normalised, the whole images.
            head_crops, body_crops: FP32 [P, 3, 224, 224], normalised.
            head_boxes, body_boxes: FP32 [P, 4], (x1, y1, x2, y2) in the 224 square.
            image_index: INT64 [P].

        Returns:
            the fusion's output (P rows); the head's and body's states (P rows), the context's (I rows); V-I logits
            [I, 26].
        """
        tokens, *context_state = self.context_encoder(images)
        context = LevelState(*context_state)
        vi_logits, vi_feature = self.vi_head(images)
        person_tokens = tokens[image_index]
        head = self.head_encoder(head_crops, head_boxes, person_tokens)
        body = self.body_encoder(body_crops, body_boxes, person_tokens)
        fused = self.fusion(head, body, context, vi_logits, vi_feature, image_index)
        return fused, head, body, context, vi_logits
