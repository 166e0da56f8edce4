"""PyTorch module -> ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import nn

from cocoer_bls.inputs import Tensors
from export.graphs import OPSET
from export.graphs.pytorch import quiet_exporter


def export_network(
    module: nn.Module,
    path: Path,
    inputs: Tensors,
    axes: Mapping[str, str],
    outputs: Sequence[str],
    metadata: dict[str, str],
) -> None:
    """Write the graph of ``module``: opset 20, dynamic leading dimensions, weights inside.

    Args:
        module: takes the inputs in their order.
        path: of the file.
        inputs: examples by name; sizes of leading dimensions that differ must differ here.
        axes: input -> name of its leading dimension.
        outputs: their names.
        metadata: to store in the file.

    Raises:
        RuntimeError: the exporter gave another opset or other tensors.
    """
    dims = {name: torch.export.Dim(name, min=1, max=1024) for name in dict.fromkeys(axes.values())}
    with quiet_exporter():
        program = torch.onnx.export(
            module,
            tuple(torch.from_numpy(array) for array in inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: dims[axes[name]]} for name in inputs),
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)
    model = onnx.load(path)
    _check_graph(model, list(inputs), list(outputs))
    # The exporter notes on every node where in which source file it came from: paths of the building machine.
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.initializer, *model.graph.output):
        del item.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


def _check_graph(model: onnx.ModelProto, inputs: list[str], outputs: list[str]) -> None:
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset != OPSET:
        raise RuntimeError(f"exported with opset {opset} instead of {OPSET}")
    for kind, values, wanted in (("inputs", model.graph.input, inputs), ("outputs", model.graph.output, outputs)):
        found = [value.name for value in values]
        if found != wanted:
            raise RuntimeError(f"exported {kind} {found} instead of {wanted}")
