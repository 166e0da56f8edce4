"""The FP16 models: what is in half precision and what is not, that TensorRT could take them, and what it costs."""

from collections import defaultdict

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cocoer.network.model import CocoER
from export.models import DETECTORS, FUSION, MODELS, RECOGNITION
from export.plans.rules import violations, with_types
from export.publishing.layout import onnx_path
from export.verification.in_process import InProcessEnsemble
from tests import golden as gold

ENCODERS = ("context_encoder", "head_encoder", "body_encoder")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_tensorrt_could_take_them(model, fp16_repository, full_repositories, repositories):
    """Those of FP32 and FP16, and what stands where there is no detector."""
    places = {onnx_path(place, model.name) for place in (fp16_repository, full_repositories(0))}
    places |= {onnx_path(repositories("opencv"), model.name)} if model in DETECTORS else set()
    for path in places:
        assert violations(onnx.load(path)) == []


def precisions(path):
    """Operator -> types of its first input."""
    graph = with_types(onnx.load(path))
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    found = defaultdict(set)
    for node in graph.node:
        found[node.op_type].add(onnx.TensorProto.DataType.Name(types[node.input[0]]) if node.input else "")
    return found


@pytest.mark.parametrize("name", [*ENCODERS, "vi_head"])
def test_what_is_in_half_precision(name, fp16_repository, full_repositories):
    found = precisions(onnx_path(fp16_repository, name))
    assert found["Conv"] == found["MatMul"] == {"FLOAT16"}
    assert "FLOAT16" in found["Gemm"]  # the wide layers; the last one stays
    half, full = (onnx_path(place, name).stat().st_size for place in (fp16_repository, full_repositories(0)))
    assert half < 0.6 * full
    assert found["Softmax"] == {"FLOAT"}
    if name == "vi_head":
        assert found["ReduceL2"] == {"FLOAT"}
    else:
        assert found["LayerNormalization"] == found["ReduceSum"] == found["Pow"] == {"FLOAT"}


def test_fusion_and_nms_are_not(fp16_repository):
    """Both precisions have one fusion: only trunks' models halve parts of the network, and it is none of them."""
    assert FUSION.module(network := CocoER(), "bgr", "fp16").fusion is network.fusion
    for name in ("person_detector", "face_detector"):
        found = precisions(onnx_path(fp16_repository, name))
        assert found["Conv"] == {"FLOAT16"}
        assert found["NonMaxSuppression"] == found["TopK"] == found["Div"] == {"FLOAT"}


def test_energy_would_not_fit():
    """Why energies stay FP32: 12,544 activations of 2.3 are enough."""
    activation = np.full(12544, 2.3, dtype=np.float16)
    with np.errstate(over="ignore"):
        assert np.isinf((activation * activation).sum(dtype=np.float16))


def test_drift_from_golden(fp16_repository, golden, sample_bgr):
    """The official code's outputs, FP16 all the way: labels and order the same, but next to a threshold."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    found = InProcessEnsemble(RECOGNITION, fp16_repository, options).run(gold.inputs(sample_bgr, golden(0)))
    errors = {key: error for key, error in gold.max_errors(found, golden(0)).items() if key in gold.LOGITS}
    print("golden drift of FP16, logits:", ", ".join(f"{key} {value:.1e}" for key, value in errors.items()))
    assert max(errors.values()) < 5e-2
    assert found["order"].tolist() == golden(0)["order"].tolist()
