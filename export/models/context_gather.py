"""The context tokens of each person's image: images' rows become persons'."""

from __future__ import annotations

from torch import Tensor, nn

from cocoer.network.model import CocoER
from cocoer_bls.inputs import Tensors
from export.models.base import NetworkModel, Tolerances
from export.models.samples import Samples
from export.models.tensors import IMAGE_INDEX, IMAGES, PERSONS, tokens_of
from export.precision import Precision


class ContextGatherGraph(nn.Module):
    """[I, 49, 256] and [P] to [P, 49, 256]."""

    def forward(self, tokens: Tensor, image_index: Tensor) -> Tensor:
        return tokens[image_index]


class ContextGatherModel(NetworkModel):
    """``context_gather``."""

    name = "context_gather"
    inputs = (tokens_of("tokens", IMAGES), IMAGE_INDEX)
    outputs = (tokens_of("person_tokens", PERSONS),)
    batch = None
    tolerances = Tolerances(fp32=0.0, fp16=0.0, int8=0.0, bf16=0.0)

    def module(self, network: CocoER, channel_order: str, precision: Precision) -> nn.Module:
        return ContextGatherGraph()

    def sample_inputs(self, samples: Samples, batch: int) -> Tensors:
        index = samples.recognition["image_index"][:batch]
        return {"tokens": samples.between["context_tokens"], "image_index": index}
