"""A real encoder, quantised: near its FP32 self, and FP32 where it is said to be."""

import shutil
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from export.models import HEAD_ENCODER
from export.precision.calibration import CalibrationImages
from export.precision.int8 import quantise
from tests import golden as gold
from tests.conftest import SAMPLE


@pytest.fixture
def quantised(full_repositories, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(SAMPLE, folder)
    path = shutil.copy(full_repositories(0) / "head_encoder" / "1" / "model.onnx", tmp_path / "model.onnx")
    # Conv 54 projects to tokens and stays.
    scenes = CalibrationImages(folder).calibrating()
    assert quantise(path, (feed for scene in scenes for feed in HEAD_ENCODER.calibration_inputs(scene))) == 53
    return path


def test_head_encoder(quantised, full_repositories, sample_bgr, golden):
    before = full_repositories(0) / "head_encoder" / "1" / "model.onnx"
    kinds = [Counter(node.op_type for node in onnx.load(path).graph.node) for path in (before, quantised)]
    for operator in ("MatMul", "Softmax", "LayerNormalization", "Gemm"):
        assert kinds[0][operator] == kinds[1][operator]
    inputs = gold.inputs(sample_bgr, golden(0))
    crops = {"crop": inputs["head_crop"], "box": inputs["head_box"]}
    context = ort.InferenceSession(str(full_repositories(0) / "context_encoder" / "1" / "model.onnx"))
    (tokens,) = context.run(["tokens"], {"image": inputs["image"]})
    feed = {**crops, "context_tokens": np.repeat(tokens, len(crops["box"]), axis=0)}
    expected, found = (ort.InferenceSession(str(path)).run(["logits"], feed)[0] for path in (before, quantised))
    drift = np.abs(found - expected)
    print(
        f"INT8 head encoder, golden persons: logits change by {drift.max():.2f} at most, {drift.mean():.3f} on average"
    )
    assert 0 < drift.max() < 1.0
    assert drift.mean() < 0.2
