"""The context encoder: the whole image, once per image."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor, nn

from cocoer.network.levels import ContextEncoder
from cocoer.network.model import CocoER
from cocoer.network.normalise import Normalise
from cocoer_bls.inputs import Tensors
from export.models.base import CropModel
from export.models.samples import Samples
from export.models.tensors import IMAGES, crop_of, level_state, tokens_of
from export.precision.bf16_encoder import suit_encoder
from export.precision.calibration import Scene
from export.precision.fp16 import halve_encoder


class ContextEncoderGraph(nn.Module):
    """UINT8 [I, 224, 224, 3] to tokens, hidden, logits, energy."""

    def __init__(self, encoder: ContextEncoder, normalise: Normalise) -> None:
        super().__init__()
        self.encoder, self.normalise = encoder, normalise

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.encoder(self.normalise(image))


class ContextEncoderModel(CropModel[ContextEncoder]):
    """``context_encoder``."""

    name = "context_encoder"
    inputs = (crop_of("image", IMAGES),)
    outputs = (tokens_of("tokens", IMAGES), *level_state("", IMAGES))
    batch = IMAGES

    def part(self, network: CocoER) -> ContextEncoder:
        return network.context_encoder

    def halve(self, part: ContextEncoder) -> None:
        halve_encoder(part)

    def suit_bf16(self, part: ContextEncoder) -> None:
        suit_encoder(part)

    def graph(self, part: ContextEncoder, normalise: Normalise) -> ContextEncoderGraph:
        return ContextEncoderGraph(part, normalise)

    def sample_inputs(self, samples: Samples, batch: int) -> Tensors:
        return {"image": np.repeat(samples.recognition["image"], batch, axis=0)}

    def calibration_inputs(self, scene: Scene) -> Iterable[Tensors]:
        yield {"image": scene.recognition["image"]}
