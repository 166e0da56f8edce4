"""The ensembles: fixed graphs of models, whose tensors stay on the device between them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cocoer_bls.images import LETTERBOX
from export.models.detectors import DetectorModel, detector_inputs
from export.models.fusion import FusionModel
from export.models.tensors import IMAGE_INDEX, IMAGES, PERSONS, Box, TensorSpec, crop_of, level_state


@dataclass(frozen=True)
class Step:
    """A model of an ensemble: its tensor -> the ensemble's."""

    model: str
    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Ensemble:
    """A fixed graph of models; every tensor has a leading dimension of any size."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    steps: tuple[Step, ...]


def _same(tensors: tuple[TensorSpec, ...]) -> dict[str, str]:
    return {tensor.name: tensor.name for tensor in tensors}


def _prefixed(prefix: str, tensors: tuple[TensorSpec, ...]) -> dict[str, str]:
    return {tensor.name: f"{prefix}_{tensor.name}" for tensor in tensors}


def detection(size: int) -> Ensemble:
    """Both detectors, on letterboxes of ``size`` x ``size`` pixels."""
    inputs, outputs = detector_inputs(size), DetectorModel.outputs
    return Ensemble(
        "detection",
        inputs=inputs,
        outputs=tuple(tensor.named(f"{kind}_{tensor.name}") for kind in ("person", "face") for tensor in outputs),
        steps=tuple(Step(f"{kind}_detector", _same(inputs), _prefixed(kind, outputs)) for kind in ("person", "face")),
    )


DETECTION = detection(LETTERBOX)


def _encode_persons(level: str) -> Step:
    return Step(
        f"{level}_encoder",
        {"crop": f"{level}_crop", "box": f"{level}_box", "context_tokens": "person_tokens"},
        _prefixed(level, level_state("", PERSONS)),
    )


def _logits(name: str) -> TensorSpec:
    """One of fusion's inputs, as an output of the ensemble."""
    (tensor,) = (tensor for tensor in FusionModel.inputs if tensor.name == name)
    return replace(tensor, labelled=True)


RECOGNITION = Ensemble(
    "recognition",
    inputs=(
        crop_of("image", IMAGES),
        crop_of("head_crop", PERSONS),
        Box("head_box", PERSONS, (4,)),
        crop_of("body_crop", PERSONS),
        Box("body_box", PERSONS, (4,)),
        IMAGE_INDEX,
    ),
    outputs=(
        *FusionModel.outputs,
        *map(_logits, ("head_logits", "body_logits", "context_logits", "vi_logits")),
    ),
    steps=(
        Step(
            "context_encoder",
            {"image": "image"},
            {"tokens": "context_tokens", **_prefixed("context", level_state("", IMAGES))},
        ),
        Step("vi_head", {"image": "image"}, {"logits": "vi_logits", "feature": "vi_feature"}),
        Step(
            "context_gather",
            {"tokens": "context_tokens", "image_index": "image_index"},
            {"person_tokens": "person_tokens"},
        ),
        _encode_persons("head"),
        _encode_persons("body"),
        Step("fusion", _same(FusionModel.inputs), _same(FusionModel.outputs)),
    ),
)
