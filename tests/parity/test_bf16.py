"""bf16 by OpenVINO: what it costs against the official code's outputs, and what stays FP32.

It takes a CPU with bf16 and the package openvino. Where either is missing, a build in bf16 must be refused, and that is
all that these tests can hold this machine to: each then checks the refusal, and prints what it could not test.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from cocoer_bls.inputs import detection_inputs
from export.models import DETECTORS, HEAD_ENCODER, RECOGNITION
from export.precision.bf16 import Bf16Session
from export.publishing.layout import onnx_path
from export.verification.in_process import InProcessEnsemble
from serving.bf16 import why_not_bf16
from tests import golden as gold
from tests.conftest import run_python

WHY_NOT = why_not_bf16()


@pytest.fixture
def in_bf16(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Path | None]:
    """The repository in bf16; None, and the refusal checked, where this machine can't have one."""

    def repository() -> Path | None:
        if not WHY_NOT:
            found: Path = request.getfixturevalue("bf16_repository")
            return found
        print(f"only the refusal is tested here: {WHY_NOT}")
        places = ("--checkpoints", tmp_path / "none", "--repository", tmp_path / "r")
        refused = run_python("export/build_engines.py", *places, "--precision", "bf16")
        assert (refused.returncode, refused.stderr) == (2, f"error: {WHY_NOT}\n")
        return None

    return repository


def drift(found, golden):
    errors = {key: error for key, error in gold.max_errors(found, golden).items() if key in gold.LOGITS}
    print("golden drift of bf16, logits:", ", ".join(f"{key} {value:.1e}" for key, value in errors.items()))
    return errors


def test_drift_from_golden(in_bf16, golden, sample_bgr):
    """The official code's outputs: logits within 5e-2, persons' levels excluded in the same order; V-I exact."""
    if (repository := in_bf16()) is None:
        return
    found = InProcessEnsemble(RECOGNITION, repository, in_bf16=True).run(gold.inputs(sample_bgr, golden(0)))
    errors = drift(found, golden(0))
    assert 1e-3 < max(errors.values()) < 5e-2  # below that it would not be bf16
    assert errors["vi"] < 1e-4
    assert found["order"].tolist() == golden(0)["order"].tolist()


def operators(path):
    """Name of a node -> its operator, of an ONNX file."""
    return {node.name or node.output[0]: node.op_type for node in onnx.load(path, load_external_data=False).graph.node}


def computed_in(repository, name):
    """Operator -> precisions that OpenVINO computes it in."""
    path = onnx_path(repository, name)
    kinds, found = operators(path), {}
    for node, precisions in Bf16Session(path).precisions().items():
        if node in kinds:
            found.setdefault(kinds[node], set()).update(precisions)
    return found


def test_what_is_in_bf16_of_an_encoder(in_bf16):
    if (repository := in_bf16()) is None:
        return
    found = computed_in(repository, HEAD_ENCODER.name)
    assert found["Conv"] == found["MatMul"] == {"bf16"}
    assert found["Pow"] == found["ReduceSum"] == {"f32"}  # energies


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: detector.name)
def test_decoding_and_nms_are_not(in_bf16, detector, sample_bgr):
    if (repository := in_bf16()) is None:
        return
    found = computed_in(repository, detector.name)
    assert "bf16" in found["Conv"]
    for operator in ("Sigmoid", "Sub", "Concat", "TopK", "GatherND", "NonMaxSuppression", "ScatterND"):
        assert found[operator] == {"f32"}
    session = Bf16Session(onnx_path(repository, detector.name))
    assert session.precisions()["all_boxes"] == {"f32"}  # the division that ends the decoding
    boxes, count = session.run(["boxes", "count"], detection_inputs([sample_bgr], [0.5], detector.size))
    assert np.isfinite(boxes).all()
    assert 0 <= count[0, 0] <= boxes.shape[1]
