"""The V-I head: CLIP's view of the whole image, once per image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from cocoer.network.model import CocoER
from cocoer.network.normalise import Normalise
from cocoer.network.vi_head import VIHead
from cocoer_bls.inputs import Tensors
from export.models.base import CropModel
from export.models.samples import Samples
from export.models.tensors import CHANNELS, IMAGES, LABELS, TensorSpec, crop_of
from export.precision.calibration import Scene
from export.precision.fp16 import halve_vi_head


class VIHeadGraph(nn.Module):
    """UINT8 [I, 224, 224, 3] to V-I logits and V-I feature."""

    def __init__(self, head: VIHead, normalise: Normalise) -> None:
        super().__init__()
        self.head, self.normalise = head, normalise

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.normalise(image))


class VIHeadModel(CropModel[VIHead]):
    """``vi_head``."""

    name = "vi_head"
    inputs = (crop_of("image", IMAGES),)
    outputs = (TensorSpec("logits", IMAGES, (LABELS,)), TensorSpec("feature", IMAGES, (CHANNELS,)))
    batch = IMAGES
    # The signs of its logits are the pseudo-labels that coordination follows, and bf16 moves them by 0.14 on the golden
    # persons: one that changes sign moves a person's final logits by 0.7 there.
    in_bf16 = False
    tolerances = replace(CropModel.tolerances, bf16=CropModel.tolerances.fp32)

    def part(self, network: CocoER) -> VIHead:
        return network.vi_head

    def halve(self, part: VIHead) -> None:
        halve_vi_head(part)

    def graph(self, part: VIHead, normalise: Normalise) -> VIHeadGraph:
        return VIHeadGraph(part, normalise)

    def sample_inputs(self, samples: Samples, batch: int) -> Tensors:
        return {"image": np.repeat(samples.recognition["image"], batch, axis=0)}

    def calibration_inputs(self, scene: Scene) -> Iterable[Tensors]:
        yield {"image": scene.recognition["image"]}
