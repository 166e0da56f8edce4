"""From the served pixels to the network's input: ImageNet's mean and standard deviation, and the order of channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
