"""A repository whose models compute nothing: the tensors, batches and ensembles of a build, and always the same answer.

What a request to it costs is what Triton, the BLS model, decoding, cropping and JSON cost.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.workloads import BOXES_GIVEN
from cocoer import __version__
from cocoer_bls.inputs import Tensors
from export.detectors.scrfd import MAX_DETECTIONS
from export.files import read_json, write_bytes, write_json, write_text
from export.graphs import OPSET
from export.models import ENSEMBLES, MODELS, Ensemble, Model
from export.models.detectors import DetectorModel
from export.models.tensors import TensorSpec
from export.options import Options
from export.publishing.compiling import compiled, library_path
from export.publishing.layout import build_path, onnx_path
from export.publishing.repository import complete, files_of

SCENE = BOXES_GIVEN[1]
"""The image, and the persons that are found in it."""
SCORES = (0.9, 0.8)
ORDER = (2, 0, 1)
"""Of the levels, as coordination excludes them."""
_TYPES = {"FP32": TensorProto.FLOAT, "INT32": TensorProto.INT32, "INT64": TensorProto.INT64, "UINT8": TensorProto.UINT8}


def constant_repository(repository: Path, code: Path | None = None, queue_delay: int = 0) -> Path:
    """Write a repository of constant models, in the place of one that may be there.

    Args:
        repository: its directory.
        code: ``cocoer_bls`` of another checkout, to be served instead of this one's.
        queue_delay: microseconds that ``cocoer`` waits for more images to run with.
    """
    shutil.rmtree(repository, ignore_errors=True)
    options = replace(Options(), repository=repository)
    for model in options.models:
        path = onnx_path(repository, model.name)
        path.parent.mkdir(parents=True)
        onnx.save(constant_model(model), path)
    facts = {"version": __version__, "weights": "none: constant models", "synthetic": True, "plans": []}
    names = ("detection", "detector_size", "channel_order", "coordination_step", "precision", "backend", "cores")
    complete(options, {**facts, **{name: getattr(options, name) for name in names}, "detector": "constant"})
    if queue_delay:
        config = repository / "cocoer" / "config.pbtxt"
        delayed = f"dynamic_batching {{\n  max_queue_delay_microseconds: {queue_delay}"
        write_text(config, config.read_text().replace("dynamic_batching {", delayed))
    if code is not None:
        _serve_another(repository, code)
    return repository


def _serve_another(repository: Path, code: Path) -> None:
    """Put another checkout's ``cocoer_bls`` in the place of this one's, compiled where it has something in C."""
    served, library = repository / "cocoer" / "1" / "cocoer_bls", library_path(repository)
    shutil.rmtree(served)
    shutil.copytree(code, served, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    if (code / "resampling").is_dir() and (content := compiled(code)):
        write_bytes(library, content)
    build = build_path(repository)
    write_json(build, {**read_json(build), "files": files_of(repository)})


def constant_answers(name: str, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
    """What an ensemble of constant models answers, without a model: its row for each image or person that was sent."""
    ensemble: Ensemble = next(one for one in ENSEMBLES if one.name == name)
    of = {shared: (step.model, own) for step in ensemble.steps for own, shared in step.outputs.items()}
    counts = {tensor.rows.name: len(inputs[tensor.name]) for tensor in ensemble.inputs}
    rows = {tensor.name: tensor.rows.name for tensor in ensemble.outputs}
    return {output: np.repeat(_constant_row(*of[output])[None], counts[rows[output]], axis=0) for output in outputs}


@cache
def _constant_row(name: str, output: str) -> np.ndarray:
    model = next(one for one in MODELS if one.name == name)
    return _row(model, next(tensor for tensor in model.outputs if tensor.name == output))


def constant_model(model: Model) -> onnx.ModelProto:
    """A graph with a model's inputs and outputs, which repeats one row as often as the batch is long.

    Detectors divide their boxes by the letterbox's scale, as real ones do: they are in pixels of the image.
    """
    nodes, constants = [], []
    for tensor in model.outputs:
        like = next(one for one in model.inputs if model.axis(one) == model.axis(tensor))
        row, name = _row(model, tensor), tensor.name
        constants += [
            numpy_helper.from_array(row[None], f"{name}_row"),
            numpy_helper.from_array(np.array(row.shape, dtype=np.int64), f"{name}_dims"),
        ]
        scaled = isinstance(model, DetectorModel) and name == "boxes"
        nodes += [
            helper.make_node("Shape", [like.name], [f"{name}_count"], start=0, end=1),
            helper.make_node("Concat", [f"{name}_count", f"{name}_dims"], [f"{name}_shape"], axis=0),
            helper.make_node("Expand", [f"{name}_row", f"{name}_shape"], [f"{name}_rows" if scaled else name]),
        ]
        if scaled:
            constants.append(numpy_helper.from_array(np.array([2], dtype=np.int64), "last_axis"))
            nodes += [
                helper.make_node("Unsqueeze", ["scale", "last_axis"], ["scale_3d"]),
                helper.make_node("Div", [f"{name}_rows", "scale_3d"], [name]),
            ]
    inputs, outputs = ([_value(model, tensor) for tensor in side] for side in (model.inputs, model.outputs))
    graph = helper.make_graph(nodes, model.name, inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def _value(model: Model, tensor: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, _TYPES[tensor.dtype], [model.axis(tensor), *tensor.dims])


def _row(model: Model, tensor: TensorSpec) -> np.ndarray:
    """What a model answers for each image or person, without the leading dimension."""
    if isinstance(model, DetectorModel):
        return _found(model)[tensor.name]
    if tensor.name == "order":
        return np.array(ORDER, dtype=np.int64)
    seed = list(f"{model.name}.{tensor.name}".encode())
    return tensor.example(1, 1, np.random.default_rng(seed))[0]


def _found(detector: DetectorModel) -> dict[str, np.ndarray]:
    """Bodies or heads of the scene's persons, in pixels of the letterbox of its image, which has the same width."""
    first = 0 if detector.finds == "person" else 4
    boxes, scores = np.zeros((MAX_DETECTIONS, 4), np.float32), np.zeros(MAX_DETECTIONS, np.float32)
    boxes[: len(SCORES)], scores[: len(SCORES)] = SCENE.boxes[:, first : first + 4], SCORES
    return {"boxes": boxes, "scores": scores, "count": np.array([len(SCORES)], dtype=np.int32)}
