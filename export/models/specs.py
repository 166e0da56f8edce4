"""The one table of served models: tensors, dimensions, batching, tolerance.

ONNX axes, ``config.pbtxt``, the ensembles' wiring and the parity report all come from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

IMAGE = 224
DETECTOR_INPUT = 640
MAX_IMAGES = 8
"""Images of one ``cocoer`` batch."""
MAX_PERSONS = 128
"""Persons of one ``recognition`` call; the BLS splits larger crowds."""
MAX_DETECTIONS = 256
"""Boxes a detector returns for one image."""
MAX_CANDIDATES = 3840
"""Boxes that enter NMS: TensorRT's largest TopK."""

RUN_BATCH = 4
"""Crops a trunk takes at once on CPU: larger batches are no faster there, and need more memory."""

HALF = 0.5
"""``context_encoder`` runs beside ``vi_head``, ``head_encoder`` beside ``body_encoder``: half of the cores for each."""

USUAL_IMAGES, USUAL_PERSONS = 8, 32
"""Rows that TensorRT tunes an engine for: the batches of a loaded server. Fewer and more run as well."""

OPSET = 20


class Rows(NamedTuple):
    """Sizes of a leading dimension; the smallest is 1."""

    optimum: int
    maximum: int


@dataclass(frozen=True)
class TensorSpec:
    """A tensor without its leading (batch) dimension; ``dtype`` in Triton's names."""

    name: str
    dtype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class EngineSpec:
    """A model that runs an ONNX graph."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    """0: no batching by Triton, every tensor then has a leading dimension of its own."""
    tolerance: float
    """Largest allowed absolute error against PyTorch, FP32 (on outputs of which the largest is about 10)."""
    fp16_tolerance: float
    int8_tolerance: float | None = None
    """None: no trunk to quantise. Else wide: it tells a broken engine, the drift report tells a bad one."""
    leading: dict[str, str] = field(default_factory=dict)
    """Name of each tensor's leading dimension where they differ (``images``, ``persons``); else ``batch``."""
    run_batch: int = 0
    """Largest batch the Python-based backend hands to ONNX Runtime at once on CPU; 0: any. Bounds memory."""
    cpu_share: float = 0.0
    """Share of the cores that a run takes there, at least one: engines that run side by side share them."""

    @property
    def is_detector(self) -> bool:
        return self.name.endswith("_detector")

    @property
    def has_network(self) -> bool:
        """Whether there is a part of the network in it that FP16 and INT8 change; else it is the same in all builds."""
        return self.max_batch_size > 0

    @property
    def takes_crops(self) -> bool:
        """Whether its input is crops of images, whose channel order a build decides; detectors have their own."""
        return not self.is_detector and any(tensor.dtype == "UINT8" for tensor in self.inputs)

    def leading_name(self, tensor: TensorSpec) -> str:
        """What a tensor's leading dimension counts: ``batch``, ``images`` or ``persons``."""
        return self.leading.get(tensor.name, "persons" if self.leading else "batch")

    def rows(self, tensor: TensorSpec) -> Rows:
        """How large a tensor's leading dimension can be."""
        images = self.leading_name(tensor) == "images" or self.max_batch_size == MAX_IMAGES
        return Rows(USUAL_IMAGES, MAX_IMAGES) if images else Rows(USUAL_PERSONS, MAX_PERSONS)


@dataclass(frozen=True)
class Step:
    """A model of an ensemble: its tensor -> the ensemble's."""

    model: str
    inputs: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class EnsembleSpec:
    """A fixed graph of models; every tensor has a leading dimension of any size."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    steps: tuple[Step, ...]


def _f32(name: str, *dims: int) -> TensorSpec:
    return TensorSpec(name, "FP32", dims)


def _pixels(name: str, side: int = IMAGE) -> TensorSpec:
    return TensorSpec(name, "UINT8", (side, side, 3))


_INDEX = TensorSpec("image_index", "INT64", ())
_STATE = (_f32("hidden", 256), _f32("logits", 26), _f32("energy", 1))
_COORDINATION = (
    _f32("lambda_w1", 3),
    _f32("lambda_b1", 3),
    _f32("lambda_w2", 2),
    _f32("lambda_b2", 2),
    _f32("grad_distance", 1),
)
_FUSED = (
    _f32("logits", 26),
    TensorSpec("order", "INT64", (3,)),
    _f32("losses", 3),
    *_COORDINATION,
    _f32("refined_logits", 3, 26),
)


def _prefixed(prefix: str, tensors: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(f"{prefix}_{t.name}", t.dtype, t.dims) for t in tensors)


_FUSION_IMAGE_INPUTS = (*_prefixed("context", _STATE), _f32("vi_logits", 26), _f32("vi_feature", 256))
_FUSION_PERSON_INPUTS = (*_prefixed("head", _STATE), *_prefixed("body", _STATE))


_DETECTOR_INPUTS = (_pixels("image", DETECTOR_INPUT), _f32("scale", 1), _f32("min_score", 1))
_DETECTOR_OUTPUTS = (
    _f32("boxes", MAX_DETECTIONS, 4),
    _f32("scores", MAX_DETECTIONS),
    TensorSpec("count", "INT32", (1,)),
)


def _detector(name: str) -> EngineSpec:
    return EngineSpec(
        name,
        inputs=_DETECTOR_INPUTS,
        outputs=_DETECTOR_OUTPUTS,
        max_batch_size=MAX_IMAGES,
        tolerance=1e-2,
        fp16_tolerance=1e-1,
        int8_tolerance=1e-2,
        run_batch=1,
        cpu_share=1.0,
    )


def _person_encoder(name: str) -> EngineSpec:
    return EngineSpec(
        name,
        inputs=(_pixels("crop"), _f32("box", 4), _f32("context_tokens", 49, 256)),
        outputs=_STATE,
        max_batch_size=MAX_PERSONS,
        tolerance=1e-3,
        fp16_tolerance=5e-2,
        int8_tolerance=1.0,
        run_batch=RUN_BATCH,
        cpu_share=HALF,
    )


ENGINES: tuple[EngineSpec, ...] = (
    _detector("person_detector"),
    _detector("face_detector"),
    EngineSpec(
        "context_encoder",
        inputs=(_pixels("image"),),
        outputs=(_f32("tokens", 49, 256), *_STATE),
        max_batch_size=MAX_IMAGES,
        tolerance=1e-3,
        fp16_tolerance=5e-2,
        int8_tolerance=1.0,
        run_batch=RUN_BATCH,
        cpu_share=HALF,
    ),
    EngineSpec(
        "vi_head",
        inputs=(_pixels("image"),),
        outputs=(_f32("logits", 26), _f32("feature", 256)),
        max_batch_size=MAX_IMAGES,
        tolerance=1e-3,
        fp16_tolerance=5e-2,
        int8_tolerance=1.0,
        run_batch=RUN_BATCH,
        cpu_share=HALF,
    ),
    EngineSpec(
        "context_gather",
        inputs=(_f32("tokens", 49, 256), _INDEX),
        outputs=(_f32("person_tokens", 49, 256),),
        max_batch_size=0,
        tolerance=0.0,
        fp16_tolerance=0.0,
        leading={"tokens": "images"},
    ),
    _person_encoder("head_encoder"),
    _person_encoder("body_encoder"),
    EngineSpec(
        "fusion",
        inputs=(*_FUSION_PERSON_INPUTS, *_FUSION_IMAGE_INPUTS, _INDEX),
        outputs=_FUSED,
        max_batch_size=0,
        tolerance=1e-3,
        fp16_tolerance=1e-3,
        leading={t.name: "images" for t in _FUSION_IMAGE_INPUTS},
    ),
)

DETECTION = EnsembleSpec(
    "detection",
    inputs=_DETECTOR_INPUTS,
    outputs=(*_prefixed("person", _DETECTOR_OUTPUTS), *_prefixed("face", _DETECTOR_OUTPUTS)),
    steps=tuple(
        Step(
            f"{kind}_detector",
            {t.name: t.name for t in _DETECTOR_INPUTS},
            {t.name: f"{kind}_{t.name}" for t in _DETECTOR_OUTPUTS},
        )
        for kind in ("person", "face")
    ),
)


def _person_step(level: str) -> Step:
    return Step(
        f"{level}_encoder",
        {"crop": f"{level}_crop", "box": f"{level}_box", "context_tokens": "person_tokens"},
        {t.name: f"{level}_{t.name}" for t in _STATE},
    )


RECOGNITION = EnsembleSpec(
    "recognition",
    inputs=(
        _pixels("image"),
        _pixels("head_crop"),
        _f32("head_box", 4),
        _pixels("body_crop"),
        _f32("body_box", 4),
        _INDEX,
    ),
    outputs=(
        *_FUSED,
        _f32("head_logits", 26),
        _f32("body_logits", 26),
        _f32("context_logits", 26),
        _f32("vi_logits", 26),
    ),
    steps=(
        Step(
            "context_encoder",
            {"image": "image"},
            {"tokens": "context_tokens", **{t.name: f"context_{t.name}" for t in _STATE}},
        ),
        Step("vi_head", {"image": "image"}, {"logits": "vi_logits", "feature": "vi_feature"}),
        Step(
            "context_gather",
            {"tokens": "context_tokens", "image_index": "image_index"},
            {"person_tokens": "person_tokens"},
        ),
        _person_step("head"),
        _person_step("body"),
        Step(
            "fusion",
            {t.name: t.name for t in (*_FUSION_PERSON_INPUTS, *_FUSION_IMAGE_INPUTS, _INDEX)},
            {t.name: t.name for t in _FUSED},
        ),
    ),
)

ENSEMBLES: tuple[EnsembleSpec, ...] = (DETECTION, RECOGNITION)


def engine(name: str) -> EngineSpec:
    """Look an engine up by name; raises KeyError with the valid ones."""
    for spec in ENGINES:
        if spec.name == name:
            return spec
    raise KeyError(f"no engine {name!r}; there are {', '.join(spec.name for spec in ENGINES)}")
