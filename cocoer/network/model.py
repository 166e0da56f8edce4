"""The whole network, as the paper's figure has it; also the parts the server runs on their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cocoer.checkpoints.loader import Checkpoint
from cocoer.network.fusion import Fusion, FusionOutput
from cocoer.network.levels import ContextEncoder, LevelState, PersonEncoder
from cocoer.network.vi_head import VIHead

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CROP = 224


class Normalise(nn.Module):
    """UINT8 [N, H, W, 3] pixels to FP32 [N, 3, H, W], ``(x / 255 - mean) / std``.

    Args:
        reverse_channels: swap the first and third channel before normalising. Pixels arrive as OpenCV decodes them,
            BGR; the official inference script feeds them so, its training code seems to have used RGB.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], reverse_channels: bool) -> None:
        super().__init__()
        self.reverse_channels = reverse_channels
        self.offset: Tensor
        self.scale: Tensor
        self.register_buffer("offset", 255 * torch.tensor(mean, dtype=torch.float64).float()[:, None, None])
        self.register_buffer("scale", (1 / (255 * torch.tensor(std, dtype=torch.float64))).float()[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        # Cast first: TensorRT takes UINT8 for a network's inputs, and can do nothing with it but that.
        x = pixels.float().permute(0, 3, 1, 2)
        if self.reverse_channels:
            x = x.flip(1)
        return (x - self.offset) * self.scale


def imagenet_normalise(channel_order: str = "bgr") -> Normalise:
    """The network's input: BGR pixels as they are (``"bgr"``, the contract) or turned to RGB first (``"rgb"``)."""
    if channel_order not in ("bgr", "rgb"):
        raise ValueError(f"channel order must be 'bgr' or 'rgb', got {channel_order!r}")
    return Normalise(IMAGENET_MEAN, IMAGENET_STD, reverse_channels=channel_order == "rgb")


class CocoER(nn.Module):
    """CocoER in evaluation mode, for P persons in I images; context and V-I run once per image."""

    def __init__(self) -> None:
        super().__init__()
        self.context_encoder = ContextEncoder()
        self.head_encoder = PersonEncoder()
        self.body_encoder = PersonEncoder()
        self.vi_head = VIHead()
        self.fusion = Fusion()

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> CocoER:
        """Build with the tensors of a checkpoint (shared, not copied), in eval mode, without gradients."""
        with torch.device("meta"):
            model = cls()
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
