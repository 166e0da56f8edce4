"""The check of graphs for TensorRT finds what TensorRT would not take."""

import onnx
import pytest
from onnx import parser

from export.plans.rules import violations


def graph(body, signature="float[n, 4] x", opset=20, domain="", output="float[n, 4] y"):
    imports = f'"": {opset}' + (f', "{domain}": 1' if domain else "")
    return parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> g ({signature}) => ({output}) {{ {body} }}")


def test_a_graph_that_it_takes():
    assert violations(graph("half = Cast <to = 10> (x) soft = Softmax (half) y = Cast <to = 1> (soft)")) == []


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (graph("t = Transpose (x) y = Cast <to = 1> (t)", "uint8[n, 4] x"), "input x is UINT8"),
        (graph("d = Cast <to = 11> (x) e = Add (d, d) y = Cast <to = 1> (e)"), "is DOUBLE"),
        (graph("y = Det (x)"), "Det y: no operator of TensorRT's"),
        (graph("y = mine.Twist (x)", domain="mine"), "domain 'mine' is not ONNX's"),
        (graph("y = Identity (x)", opset=8), "opset 8 is not one of 9 to 24"),
        (graph("i = Cast <to = 6> (x) r = Sigmoid (i) y = Cast <to = 1> (r)"), "input i is INT32"),
        (graph("y = EyeLike <dtype = 1> (x)"), "must have fixed dimensions"),
        (
            graph("k = Constant <value_ints = [5000]> () y, i = TopK <axis = 0> (x, k)"),
            "K must be a constant of at most 3840",
        ),
        (graph("y, mean = LayerNormalization (x, w)", "float[n, 4] x, float[4] w"), "only its first output"),
        (graph("y = ReduceSum (x, a)", "float[n, 4] x, int64[1] a"), "axes must be an initializer"),
    ],
)
def test_what_it_does_not_take(model, told):
    found = violations(model)
    assert any(told in problem for problem in found), found


def test_inside_loops_too():
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Det", ["row"], ["row_out"])],
        "body",
        [onnx.helper.make_tensor_value_info("row", 1, [4, 4])],
        [onnx.helper.make_tensor_value_info("row_out", 1, [])],
    )
    scan = onnx.helper.make_node("Scan", ["x"], ["y"], num_scan_inputs=1, body=body)
    model = graph("y = Identity (x)", "float[n, 4, 4] x", output="float[n] y")
    del model.graph.node[:]
    model.graph.node.append(scan)
    assert any("Det row_out" in problem for problem in violations(model))
