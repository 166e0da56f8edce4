"""The head and the body encoder: a person's crop, once per person."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from torch import Tensor, nn

from cocoer.network.levels import PersonEncoder
from cocoer.network.model import CocoER
from cocoer.network.normalise import Normalise
from cocoer_bls.inputs import Tensors
from export.models.base import CropModel
from export.models.samples import Samples
from export.models.tensors import PERSONS, Box, crop_of, level_state, tokens_of
from export.precision.bf16_encoder import suit_encoder
from export.precision.calibration import Scene
from export.precision.fp16 import halve_encoder


class PersonEncoderGraph(nn.Module):
    """UINT8 [P, 224, 224, 3], box [P, 4], context tokens [P, 49, 256] to hidden, logits, energy."""

    def __init__(self, encoder: PersonEncoder, normalise: Normalise) -> None:
        super().__init__()
        self.encoder, self.normalise = encoder, normalise

    def forward(self, crop: Tensor, box: Tensor, context_tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(self.encoder(self.normalise(crop), box, context_tokens))


class PersonEncoderModel(CropModel[PersonEncoder]):
    """``head_encoder`` or ``body_encoder``."""

    inputs = (crop_of("crop", PERSONS), Box("box", PERSONS, (4,)), tokens_of("context_tokens", PERSONS))
    outputs = level_state("", PERSONS)
    batch = PERSONS

    def __init__(self, level: Literal["head", "body"]) -> None:
        self.level, self.name = level, f"{level}_encoder"

    def part(self, network: CocoER) -> PersonEncoder:
        return network.head_encoder if self.level == "head" else network.body_encoder

    def halve(self, part: PersonEncoder) -> None:
        halve_encoder(part)

    def suit_bf16(self, part: PersonEncoder) -> None:
        suit_encoder(part)

    def graph(self, part: PersonEncoder, normalise: Normalise) -> PersonEncoderGraph:
        return PersonEncoderGraph(part, normalise)

    def sample_inputs(self, samples: Samples, batch: int) -> Tensors:
        given = samples.recognition
        return {
            "crop": given[f"{self.level}_crop"][:batch],
            "box": given[f"{self.level}_box"][:batch],
            "context_tokens": samples.between["person_tokens"][:batch],
        }

    def calibration_inputs(self, scene: Scene) -> Iterable[Tensors]:
        """A person at a time; context tokens are zeros, for no trunk sees them."""
        given = scene.recognition
        (tokens,) = (tensor for tensor in self.inputs if tensor.name == "context_tokens")
        for row in range(len(scene.persons)):
            yield {
                "crop": given[f"{self.level}_crop"][row : row + 1],
                "box": given[f"{self.level}_box"][row : row + 1],
                "context_tokens": np.zeros((1, *tokens.dims), dtype=np.float32),
            }
