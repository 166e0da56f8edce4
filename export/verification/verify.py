"""Running each engine against the network it came from, before it replaces another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from PIL import Image

from cocoer.network.levels import LevelState
from cocoer.network.model import CocoER
from cocoer.network.normalise import imagenet_normalise
from export import PROJECT
from export.models.onnx_export import example_inputs
from export.models.specs import DETECTOR_INPUT, IMAGE, EngineSpec

SAMPLE = PROJECT / "examples" / "astronaut.png"
# (body, head) boxes in the 512x512 sample; two persons made of one.
SAMPLE_BOXES = (((94, 20, 400, 512), (177, 66, 272, 161)), ((60, 0, 460, 330), (160, 40, 290, 190)))
BATCHES = (1, 3)

Arrays = dict[str, np.ndarray]
Pairs = dict[str, tuple[np.ndarray, np.ndarray]]
Compare = Callable[[Arrays], Pairs]
"""Inputs -> what was compared, and its two values: the engine's, the reference's."""


@dataclass(frozen=True)
class Parity:
    """How far an engine is from its reference."""

    max_error: float
    """Largest error found, see ``error``; the tolerance that would have been enough."""
    worst: str
    """Where: tensor, input and batch size."""
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.max_error <= self.tolerance

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "passed": self.passed}


def error(value: np.ndarray, reference: np.ndarray) -> float:
    """Largest absolute error, scaled down where the reference's largest value is over 10: as if it were 10."""
    if value.shape != reference.shape or value.dtype != reference.dtype:
        return float("inf")
    difference = np.abs(value.astype(np.float64) - reference.astype(np.float64)).max(initial=0.0)
    scaled = difference / max(1.0, np.abs(reference).max(initial=0.0) / 10)
    return float(scaled) if np.isfinite(scaled) else float("inf")


def verify(spec: EngineSpec, compare: Compare, samples: SampleInputs, tolerance: float) -> Parity:
    """Compare on random and real input at two batch sizes."""
    errors: dict[str, float] = {}
    for batch in BATCHES:
        kinds = {"random": samples.random(spec, batch), "real": samples.real(spec, batch)}
        for kind, inputs in kinds.items():
            for name, (value, expected) in compare(inputs).items():
                errors[f"{name}, {kind} input, batch {batch}"] = error(value, expected)
    worst = max(errors, key=lambda key: errors[key])
    return Parity(errors[worst], worst, tolerance)


def torch_comparison(path: Path, spec: EngineSpec, module: torch.nn.Module, precision: str) -> Compare:
    """An ONNX file against the module it was exported from (in FP32)."""
    session = onnx_session(path, precision)
    names = [tensor.name for tensor in spec.outputs]

    @torch.no_grad()
    def compare(inputs: Arrays) -> Pairs:
        expected = module(*(torch.from_numpy(array) for array in inputs.values()))
        expected = expected if isinstance(expected, tuple) else (expected,)
        values = session.run(names, inputs)
        return {name: (value, x.numpy()) for name, value, x in zip(names, values, expected)}

    return compare


def onnx_session(path: Path, precision: str, providers: Sequence[Any] = ()) -> ort.InferenceSession:
    """An ONNX file in ONNX Runtime, by ``providers`` and else on the CPU.

    At its highest level of optimisation ONNX Runtime crashes on FP16 transformer graphs there.
    """
    options = ort.SessionOptions()
    if precision == "fp16":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return ort.InferenceSession(str(path), options, providers=[*providers, "CPUExecutionProvider"])


class SampleInputs:
    """Inputs of each engine: random, and real ones from the sample image run through the network."""

    def __init__(self, model: CocoER | None, channel_order: str) -> None:
        self.model = model
        self.normalise = imagenet_normalise(channel_order)
        with Image.open(SAMPLE) as image:
            self.pixels = np.ascontiguousarray(np.array(image.convert("RGB"))[:, :, ::-1])

    def random(self, spec: EngineSpec, batch: int) -> Arrays:
        inputs = example_inputs(spec, images=batch, persons=batch + 1, seed=batch)
        if spec.is_detector:
            inputs |= self._detector_options(len(inputs["image"]))
        return inputs

    def real(self, spec: EngineSpec, batch: int) -> Arrays:
        if spec.is_detector:
            return {"image": _repeat(self._letterbox(), batch), **self._detector_options(batch)}
        if spec.name in ("context_encoder", "vi_head"):
            return {"image": _repeat(self.pixels_of((0, 0, 512, 512)), batch)}
        if spec.name.endswith("_encoder"):
            return {name: array[:batch] for name, array in self._persons[spec.name.partition("_")[0]].items()}
        # One image, ``batch`` persons.
        inputs = {tensor.name: self._fusion_inputs[tensor.name] for tensor in spec.inputs}
        return {name: x if spec.leading.get(name) == "images" else x[:batch] for name, x in inputs.items()}

    def pixels_of(self, box: tuple[int, int, int, int]) -> np.ndarray:
        """UINT8 [1, 224, 224, 3]: a crop of the sample."""
        x1, y1, x2, y2 = box
        crop = Image.fromarray(np.ascontiguousarray(self.pixels[y1:y2, x1:x2]))
        return np.array(crop.resize((IMAGE, IMAGE), Image.Resampling.BILINEAR))[None]

    def _letterbox(self) -> np.ndarray:
        image = Image.fromarray(self.pixels).resize((DETECTOR_INPUT, DETECTOR_INPUT), Image.Resampling.BILINEAR)
        return np.asarray(image)[None]

    def _detector_options(self, batch: int) -> Arrays:
        return {
            "scale": np.full((batch, 1), DETECTOR_INPUT / 512, dtype=np.float32),
            "min_score": np.full((batch, 1), 0.5, dtype=np.float32),
        }

    @cached_property
    def _persons(self) -> dict[str, Arrays]:
        tokens = self._context[0].numpy()
        boxes = [SAMPLE_BOXES[index % 2] for index in range(max(BATCHES))]
        return {
            level: {
                "crop": np.concatenate([self.pixels_of(pair[column]) for pair in boxes]),
                "box": np.array([np.trunc(np.array(pair[column]) * (IMAGE / 512)) for pair in boxes], dtype=np.float32),
                "context_tokens": np.repeat(tokens, len(boxes), axis=0),
            }
            for column, level in enumerate(("body", "head"))
        }

    @cached_property
    @torch.no_grad()
    def _context(self) -> tuple[torch.Tensor, ...]:
        assert self.model is not None
        return self.model.context_encoder(self.normalise(torch.from_numpy(self.pixels_of((0, 0, 512, 512)))))

    @cached_property
    @torch.no_grad()
    def _fusion_inputs(self) -> Arrays:
        assert self.model is not None
        image = self.normalise(torch.from_numpy(self.pixels_of((0, 0, 512, 512))))
        vi_logits, vi_feature = self.model.vi_head(image)
        states = {"context": LevelState(*self._context[1:])}
        for level in ("head", "body"):
            crop, box, tokens = (torch.from_numpy(array) for array in self._persons[level].values())
            states[level] = getattr(self.model, f"{level}_encoder")(self.normalise(crop), box, tokens)
        arrays = {
            f"{level}_{field}": x.numpy() for level, state in states.items() for field, x in state._asdict().items()
        }
        persons = len(self._persons["head"]["box"])
        return {
            **arrays,
            "vi_logits": vi_logits.numpy(),
            "vi_feature": vi_feature.numpy(),
            "tokens": self._context[0].numpy(),
            "image_index": np.zeros(persons, dtype=np.int64),
        }


def _repeat(array: np.ndarray, batch: int) -> np.ndarray:
    return np.repeat(array, batch, axis=0)
