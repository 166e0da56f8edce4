"""PyTorch module -> ONNX file, by a spec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from export.detectors.synthetic import quiet_exporter
from export.models.specs import OPSET, EngineSpec, TensorSpec


def example_inputs(spec: EngineSpec, images: int, persons: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random input of an engine: pixels over the full range, boxes inside the 224 square, valid indices.

    Args:
        images, persons: sizes of the leading dimensions of those names; ``batch`` takes ``persons``.
    """
    rng = np.random.default_rng(seed)
    rows = {"images": images, "persons": persons, "batch": persons}
    return {t.name: _example(t, rows[spec.leading_name(t)], images, rng) for t in spec.inputs}


def _example(tensor: TensorSpec, rows: int, images: int, rng: np.random.Generator) -> np.ndarray:
    shape = (rows, *tensor.dims)
    if tensor.dtype == "UINT8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if tensor.name == "image_index":
        return rng.integers(0, images, shape, dtype=np.int64)
    if tensor.name == "box":
        corners = np.sort(rng.uniform(0, 224, (rows, 2, 2)), axis=1)
        return np.floor(corners).reshape(rows, 4).astype(np.float32)
    if tensor.name.endswith("energy"):
        return rng.uniform(2000, 6000, shape).astype(np.float32)
    return rng.standard_normal(shape, dtype=np.float32)


def export_onnx(module: nn.Module, spec: EngineSpec, path: Path, metadata: dict[str, str]) -> None:
    """Write the graph of ``module``: opset 20, the spec's names, dynamic leading dimensions, weights inside.

    Raises:
        RuntimeError: the exporter gave another opset or other tensors than the spec's.
    """
    inputs = example_inputs(spec, images=3, persons=4)
    dims = {name: torch.export.Dim(name, min=1, max=1024) for name in ("batch", "images", "persons")}
    shapes = tuple({0: dims[spec.leading_name(tensor)]} for tensor in spec.inputs)
    with quiet_exporter():
        program = torch.onnx.export(
            module,
            tuple(torch.from_numpy(array) for array in inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=[t.name for t in spec.inputs],
            output_names=[t.name for t in spec.outputs],
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)
    model = onnx.load(path)
    _check_graph(model, spec)
    # The exporter notes on every node where in which source file it came from: paths of the building machine.
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.initializer, *model.graph.output):
        del item.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


def _check_graph(model: onnx.ModelProto, spec: EngineSpec) -> None:
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset != OPSET:
        raise RuntimeError(f"{spec.name}: exported with opset {opset} instead of {OPSET}")
    for kind in ("inputs", "outputs"):
        found = [value.name for value in getattr(model.graph, kind[:-1])]
        wanted = [tensor.name for tensor in getattr(spec, kind)]
        if found != wanted:
            raise RuntimeError(f"{spec.name}: exported {kind} {found} instead of {wanted}")
