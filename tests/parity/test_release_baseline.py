"""The benchmark's baselines do the release's computation: they reproduce the golden files, and insightface's boxes."""

import numpy as np
import pytest
from insightface.model_zoo.scrfd import SCRFD

from benchmarks.port import TorchPort
from benchmarks.release import ReleaseInference
from benchmarks.release_detection import ReleaseDetection
from cocoer.checkpoints.loader import load_checkpoint
from export.models import DETECTORS
from tests import golden as gold


def test_golden(checkpoints, golden, sample_bgr):
    inputs, expected = gold.inputs(sample_bgr, golden(0)), golden(0)
    release = ReleaseInference(load_checkpoint(checkpoints(0)))
    for index in range(2):
        crops = {level: inputs[f"{level}_crop"][index] for level in ("head", "body")}
        boxes = {level: inputs[f"{level}_box"][index].tolist() for level in ("head", "body")}
        result = release.person({"context": inputs["image"][0], **crops}, boxes)
        assert np.abs(result["logits"] - expected["pred"][index]).max() < 1e-4
        assert np.abs(result["losses"] - expected["losses"][index]).max() < 1e-4
        assert result["order"].tolist() == expected["order"][index].tolist()
        for name, weights in zip(("lambda_w1", "lambda_b1", "lambda_w2", "lambda_b2"), result["lambdas"]):
            np.testing.assert_allclose(weights, expected[name][index], atol=2e-4)


def test_port(checkpoints, golden, sample_bgr):
    """All persons at once; the weights are as before, so that it says the same again."""
    inputs, expected = gold.inputs(sample_bgr, golden(0)), golden(0)
    port = TorchPort(ReleaseInference(load_checkpoint(checkpoints(0))))
    for _ in range(2):
        result = port.image(inputs)
        assert np.abs(result["logits"] - expected["pred"]).max() < 1e-4
        assert np.abs(result["losses"] - expected["losses"]).max() < 1e-4
        assert result["order"].tolist() == expected["order"].tolist()
        for name in gold.LAMBDAS:
            np.testing.assert_allclose(result[name], expected[name], atol=2e-4)


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: detector.name)
def test_detection(detector, checkpoints, sample_bgr):
    peer = SCRFD(str(checkpoints(0) / detector.file))
    peer.prepare(-1, nms_thresh=detector.iou_threshold, det_thresh=0.5, input_size=(640, 640))
    expected, _ = peer.detect(sample_bgr)
    found = ReleaseDetection(checkpoints(0)).files[detector.name].detect(sample_bgr, 0.5)
    assert len(expected) > 3
    np.testing.assert_allclose(found, expected[:, :4], atol=2e-2)
