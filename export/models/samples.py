"""Real inputs to verify models with: the sample image, and what the network makes of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch

from cocoer.network.levels import LevelState
from cocoer.network.model import CocoER
from cocoer.network.normalise import imagenet_normalise
from cocoer_bls.boxes import Person
from cocoer_bls.images import DecodeLimits, decode
from cocoer_bls.inputs import MIN_SCORE, Tensors, detection_inputs, recognition_inputs
from export import PROJECT

SAMPLE = PROJECT / "examples" / "astronaut.png"
_ONE, _OTHER = (
    Person(body=(94, 20, 400, 512), head=(177, 66, 272, 161)),
    Person(body=(60, 0, 460, 330), head=(160, 40, 290, 190)),
)
SAMPLE_PERSONS = (_ONE, _OTHER, _ONE)
"""Boxes in the 512x512 sample; as many persons as the largest batch that is verified."""


class Samples:
    """Tensors of one image and three persons, as the server would make them.

    Args:
        network: gives the network; asked when a model first needs what it makes.
        channel_order: "bgr" or "rgb", see ``imagenet_normalise``.
    """

    def __init__(self, network: Callable[[], CocoER], channel_order: str) -> None:
        self._network, self._channel_order = network, channel_order

    @cached_property
    def image(self) -> np.ndarray:
        """UINT8 [512, 512, 3], BGR."""
        return decode(SAMPLE.read_bytes(), DecodeLimits(1 << 24, 1 << 24))

    def detection(self, size: int) -> Tensors:
        """What ``detection`` is sent, one image; letterboxes of ``size`` x ``size`` pixels."""
        return detection_inputs([self.image], [MIN_SCORE], size)

    @cached_property
    def recognition(self) -> Tensors:
        """What ``recognition`` is sent, one image and its persons."""
        return recognition_inputs([(self.image, SAMPLE_PERSONS)])

    @cached_property
    @torch.no_grad()
    def between(self) -> Tensors:
        """Tensors of ``recognition`` between its models, by their names there."""
        network, normalise = self._network(), imagenet_normalise(self._channel_order)
        given = {name: torch.from_numpy(array) for name, array in self.recognition.items()}
        image = normalise(given["image"])
        tokens, *context = network.context_encoder(image)
        person_tokens = tokens[given["image_index"]]
        vi_logits, vi_feature = network.vi_head(image)
        states = {"context": LevelState(*context)}
        for level, encoder in (("head", network.head_encoder), ("body", network.body_encoder)):
            states[level] = encoder(normalise(given[f"{level}_crop"]), given[f"{level}_box"], person_tokens)
        made = {f"{level}_{name}": x for level, state in states.items() for name, x in state._asdict().items()}
        made |= {"context_tokens": tokens, "person_tokens": person_tokens}
        made |= {"vi_logits": vi_logits, "vi_feature": vi_feature}
        return {name: tensor.numpy() for name, tensor in made.items()}
