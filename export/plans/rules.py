"""Whether TensorRT can take an ONNX graph: operators, types and limits, checked where there is no TensorRT.

The operators and their types are those of TensorRT 10.15's ONNX parser (opset 9 to 24; its ``docs/operators.md``); 11.x
takes the same. Listed are the operators that our graphs have; another one has to be looked up before it is added.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto, numpy_helper

OPSETS = range(9, 25)
MAX_TOPK = 3840
LARGE = 4096
"""Bytes of a weight that no shape depends on."""

_FLOAT = frozenset(("FLOAT", "FLOAT16", "BFLOAT16"))
_NUMBER = _FLOAT | {"INT32", "INT64"}
_ANY = _NUMBER | {"BOOL"}
_INDEX = frozenset(("INT32", "INT64"))

OPERATORS: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            "AveragePool",
            "BatchNormalization",
            "Clip",
            "Conv",
            "Erf",
            "Exp",
            "Floor",
            "GlobalAveragePool",
            "LayerNormalization",
            "Log",
            "MatMul",
            "MaxPool",
            "Gemm",
            "Reciprocal",
            "Resize",
            "Sigmoid",
            "Softmax",
            "Sqrt",
        ),
        _FLOAT,
    ),
    **dict.fromkeys(
        (
            "Abs",
            "Add",
            "ArgMax",
            "ArgMin",
            "Div",
            "Equal",
            "Gelu",
            "Greater",
            "GreaterOrEqual",
            "Less",
            "LessOrEqual",
            "Max",
            "Min",
            "Mul",
            "Neg",
            "Pow",
            "ReduceL2",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceSum",
            "Relu",
            "Scan",
            "ScatterND",
            "Sub",
            "TopK",
        ),
        _NUMBER,
    ),
    **dict.fromkeys(
        (
            "Concat",
            "Expand",
            "Gather",
            "GatherElements",
            "GatherND",
            "Identity",
            "Reshape",
            "Shape",
            "Slice",
            "Split",
            "Squeeze",
            "Transpose",
            "Unsqueeze",
            "Where",
        ),
        _ANY,
    ),
    "And": frozenset(("BOOL",)),
    "Or": frozenset(("BOOL",)),
    "Not": frozenset(("BOOL",)),
    "Cast": _ANY | {"UINT8"},
    "ConstantOfShape": _INDEX,
    "EyeLike": _ANY,
    "NonMaxSuppression": frozenset(("FLOAT", "FLOAT16", "INT64")),
}
"""Operator -> types of its inputs."""


def violations(model: onnx.ModelProto) -> list[str]:
    """What TensorRT would not take; empty if nothing. Each entry names a node, and the rule."""
    found = []
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            found.append(f"domain {entry.domain!r} is not ONNX's: its operators would be plugins")
        elif entry.version not in OPSETS:
            found.append(f"opset {entry.version} is not one of {OPSETS.start} to {OPSETS.stop - 1}")
    return found + list(_of_graph(with_types(model), {}))


def with_types(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph with the type of every tensor; large weights are left out, for inference copies what it is given."""
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        if len(tensor.raw_data) > LARGE:
            tensor.ClearField("raw_data")
    return onnx.shape_inference.infer_shapes(light, data_prop=True).graph


def _of_graph(graph: onnx.GraphProto, outer: dict[str, onnx.TypeProto.Tensor]) -> Iterator[str]:
    values = {v.name: v.type.tensor_type for v in (*graph.input, *graph.value_info, *graph.output)}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    types = {name: TensorProto.DataType.Name(value.elem_type) for name, value in {**outer, **values}.items()}
    types |= {name: TensorProto.DataType.Name(tensor.data_type) for name, tensor in constants.items()}
    for node in graph.node:
        where = f"{node.op_type} {node.name or node.output[0]}"
        if node.op_type not in OPERATORS:
            yield f"{where}: no operator of TensorRT's, or not looked up yet"
            continue
        for name in filter(None, node.input):
            kind = types.get(name, "UNDEFINED")
            if kind not in OPERATORS[node.op_type]:
                yield f"{where}: input {name} is {kind}, TensorRT takes {', '.join(sorted(OPERATORS[node.op_type]))}"
        yield from (f"{where}: {problem}" for problem in _of_node(node, values, constants))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _of_graph(attribute.g, {**outer, **values})


def _of_node(
    node: onnx.NodeProto, values: dict[str, onnx.TypeProto.Tensor], constants: dict[str, TensorProto]
) -> Iterator[str]:
    """Rules of single operators."""
    if node.op_type == "TopK":
        k = constants.get(node.input[1])
        if k is None or numpy_helper.to_array(k).item() > MAX_TOPK:
            yield f"K must be a constant of at most {MAX_TOPK}"
    if node.op_type.startswith("Reduce") and len(node.input) > 1 and node.input[1] not in constants:
        yield "axes must be an initializer"
    if node.op_type == "EyeLike":
        dims = values[node.input[0]].shape.dim if node.input[0] in values else ()
        if not dims or not all(dim.HasField("dim_value") for dim in dims):
            yield "its input must have fixed dimensions"
    if node.op_type in ("LayerNormalization", "MaxPool") and len([name for name in node.output if name]) > 1:
        yield "only its first output can be had"
