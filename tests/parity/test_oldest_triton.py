"""Every operator of every exported graph is in the ONNX Runtime of the oldest Triton that serves: 24.10 has 1.19.2.

``tests/data/onnxruntime-1.19.2-operators.json`` is what that release says of itself (``get_all_opkernel_def`` in its
wheel, from which its docs/OperatorKernels.md is written): the CPU's kernels for opset 20, each with its types by the
names of the ONNX schema; types that no graph here has are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from onnx import parser, shape_inference

from tests.conftest import PROJECT

LIST = json.loads((PROJECT / "tests/data/onnxruntime-1.19.2-operators.json").read_text())
OLDEST_IR_VERSION = 10
"""The last one that ONNX Runtime 1.18 to 1.19 read."""


def missing(model: onnx.ModelProto) -> set[str]:
    """What that ONNX Runtime has no kernel for: "operator (types)"."""
    if [(one.domain, one.version) for one in model.opset_import] != [("", LIST["opset"])]:
        return {f"opset {[(one.domain, one.version) for one in model.opset_import]}"}
    return set(_missing(shape_inference.infer_shapes(model).graph, {}))


def _missing(graph: onnx.GraphProto, outer: dict[str, int]) -> Iterator[str]:
    types = {**outer, **{tensor.name: tensor.data_type for tensor in graph.initializer}}
    for value in (*graph.input, *graph.output, *graph.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    for node in graph.node:
        for attribute in node.attribute:
            yield from _missing(attribute.g, types)
        if node.op_type == "Constant":
            continue  # becomes an initializer when a session is made
        given = _types(node, types)
        kernels = LIST["operators"].get(node.op_type, []) if node.domain == "" else []
        if not any(all(given.get(name, kernel[name][0]) in kernel[name] for name in kernel) for kernel in kernels):
            yield f"{node.op_type} ({', '.join(f'{name}: {type_}' for name, type_ in given.items())})"


def _types(node: onnx.NodeProto, types: dict[str, int]) -> dict[str, str]:
    """Name in the schema (T, Tind) -> type of the tensors there."""
    schema = onnx.defs.get_schema(node.op_type, LIST["opset"], node.domain)
    named = {}
    for formal, names in ((schema.inputs, node.input), (schema.outputs, node.output)):
        for index, name in enumerate(names):
            parameter = formal[min(index, len(formal) - 1)].type_str
            if name and parameter in {one.type_param_str for one in schema.type_constraints}:
                kind = onnx.TensorProto.DataType.Name(types[name]).lower()
                # Where the CPU has no kernel for FP16, ONNX Runtime puts casts to FP32 around the operator.
                named[parameter] = "float" if kind == "float16" else kind
    return named


@pytest.mark.parametrize("detectors", ["scrfd", "opencv"])
def test_every_operator_is_known(repositories: Callable[[str], Path], detectors: str) -> None:
    """The tiny CocoER has the release's graph."""
    files = sorted(repositories(detectors).glob("*/1/model.onnx"))
    assert len(files) == 8
    for file in files:
        model = onnx.load(file)
        assert model.ir_version <= OLDEST_IR_VERSION
        assert missing(model) == set(), file.parent.parent.name


def test_every_operator_of_fp16_is_known(fp16_repository: Path) -> None:
    for file in sorted(fp16_repository.glob("*/1/model.onnx")):
        assert missing(onnx.load(file)) == set(), file.parent.parent.name


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("b = ArgMax (a)", {"ArgMax (T: int64)"}),  # of fusion once, which therefore did not load
        ("c = Cast <to = 6> (a)  b = ArgMax (c)", set()),
        ("c = Cast <to = 1> (a)  d = Tan (c)  b = Cast <to = 7> (d)", {"Tan (T: float)"}),
    ],
)
def test_an_operator_that_is_not_known(body: str, expected: set[str]) -> None:
    text = f'<ir_version: 10, opset_import: ["": {LIST["opset"]}]> g (int64[n] a) => (int64[m] b) {{ {body} }}'
    assert missing(parser.parse_model(text)) == expected


def test_another_opset_is_not_known() -> None:
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[n] a) => (float[n] b) { b = Abs (a) }'
    )
    assert missing(model) == {"opset [('', 21)]"}
