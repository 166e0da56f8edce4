"""INT8 for CPUs: static quantisation of convolutional trunks, by ONNX Runtime's quantizer.

Quantised is what lies between a graph's first convolution and the first operator that is no part of a trunk;
convolutions at its end (projections to tokens, a detector's scores and boxes), attention, heads and fusion stay FP32.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from cocoer_bls.inputs import Tensors

TRUNK_OPERATORS = ("Conv", "Add", "Relu", "MaxPool", "AveragePool")


class NothingToQuantise(Exception):
    """The graph has no trunk in view (a detector with a baked-in batch runs inside a loop)."""


class _Reader(CalibrationDataReader):
    def __init__(self, feeds: Iterable[Tensors]) -> None:
        self.feeds: Iterator[Tensors] = iter(feeds)

    def get_next(self) -> Tensors | None:
        return next(self.feeds, None)


def quantise(path: Path, feeds: Iterable[Tensors]) -> int:
    """Quantise an ONNX file in place: weights INT8 for each channel, activations UINT8.

    Args:
        path: the file, FP32.
        feeds: inputs to calibrate the activations' ranges with.

    Returns:
        how many convolutions are INT8 now.

    Raises:
        NothingToQuantise: there is none.
    """
    metadata = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".quantise-") as directory:
        prepared, quantised = Path(directory) / "prepared.onnx", Path(directory) / "quantised.onnx"
        with _quantizer_silent():
            quant_pre_process(path, prepared, skip_symbolic_shape=True)
            names, convolutions = trunk_nodes(onnx.load(prepared).graph)
            if not names:
                raise NothingToQuantise(f"{path.name} has no convolutional trunk to quantise")
            quantize_static(
                prepared,
                quantised,
                _Reader(feeds),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(TRUNK_OPERATORS),
                nodes_to_quantize=names,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        model = onnx.load(quantised)
        # ONNX Runtime declares all domains it knows.
        used = {node.domain for node in model.graph.node}
        imports = [entry for entry in model.opset_import if entry.domain in used]
        del model.opset_import[:]
        model.opset_import.extend(imports)
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, path)
    return convolutions


def trunk_nodes(graph: onnx.GraphProto) -> tuple[list[str], int]:
    """Names of the nodes to quantise, and the number of convolutions among them.

    A node belongs to the trunk if it is one of ``TRUNK_OPERATORS`` and comes after a convolution through such nodes
    alone (a convolution at the start may have any input); it is quantised unless it is a convolution that feeds
    anything else.
    """
    constants = {tensor.name for tensor in graph.initializer}
    from_trunk: set[str] = set()
    trunk: list[onnx.NodeProto] = []
    for node in graph.node:
        inputs = [name for name in node.input if name and name not in constants]
        follows = bool(inputs) and all(name in from_trunk for name in inputs)
        if node.op_type in TRUNK_OPERATORS and (follows or (node.op_type == "Conv" and not from_trunk)):
            trunk.append(node)
            from_trunk.update(node.output)
    members = {node.name for node in trunk}
    outside = {name for node in graph.node if node.name not in members for name in node.input}
    outside |= {value.name for value in graph.output}
    chosen = [node for node in trunk if node.op_type != "Conv" or not outside.intersection(node.output)]
    return [node.name for node in chosen], sum(node.op_type == "Conv" for node in chosen)


@contextmanager
def _quantizer_silent() -> Iterator[None]:
    """The quantizer writes advice to the root logger; ours to follow or not, not the user's."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
