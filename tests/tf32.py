"""What TF32 does to a graph, on a CPU: products of FP32 numbers with 10 bits of mantissa."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.plans.rules import with_types

PRODUCTS = ("MatMul", "Gemm", "Conv")
SPLIT = np.array(2.0**13 + 1, dtype=np.float32)
"""Veltkamp's constant: 24 bits of FP32, implicit one included, become 11."""


def with_tf32_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, with both factors of each FP32 product rounded to TF32; the sums stay FP32, as in a tensor core."""
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    _round(rounded.graph, with_types(model))
    return rounded


def _round(graph: onnx.GraphProto, typed: onnx.GraphProto) -> None:
    values = {v.name: v.type.tensor_type.elem_type for v in (*typed.input, *typed.value_info, *typed.output)}
    values |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    done: dict[str, str] = {}
    for node, known in zip(list(graph.node), list(typed.node)):
        for attribute, other in zip(node.attribute, known.attribute):
            if attribute.type == onnx.AttributeProto.GRAPH:
                _round(attribute.g, other.g)
        for index in range(2 if node.op_type in PRODUCTS else 0):
            name = node.input[index]
            if values.get(name) == TensorProto.FLOAT:
                if name not in done:
                    done[name] = f"{graph.name}/{name}/tf32"
                    nodes += _rounding(name, done[name])
                node.input[index] = done[name]
        nodes.append(node)
    if done:
        graph.initializer.append(numpy_helper.from_array(SPLIT, "tf32/split"))
    del graph.node[:]
    graph.node.extend(nodes)


def _rounding(name: str, target: str) -> list[onnx.NodeProto]:
    scaled, rest = f"{target}/scaled", f"{target}/rest"
    return [
        helper.make_node("Mul", [name, "tf32/split"], [scaled]),
        helper.make_node("Sub", [scaled, name], [rest]),
        helper.make_node("Sub", [scaled, rest], [target]),
    ]
