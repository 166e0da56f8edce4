"""The official code's outputs, reproduced by the PyTorch modules and by the ONNX files."""

import numpy as np
import pytest

from cocoer.checkpoints.loader import Identity, checkpoint_from_tensors
from cocoer.checkpoints.synthetic import synthetic_tensors
from export.models import RECOGNITION
from export.verification.in_process import InProcessEnsemble
from tests import golden as gold
from tests.conftest import SEEDS


@pytest.mark.parametrize("seed", SEEDS)
def test_pytorch(seed, golden, sample_bgr):
    """1e-4, the contract's tolerance for PyTorch modules; features too."""
    gwt, clip = (dict(synthetic_tensors(seed, part)) for part in ("GWT", "CLIP_RN50"))
    checkpoint = checkpoint_from_tensors(gwt, clip, Identity(f"synthetic seed {seed}", synthetic=True))
    outputs = gold.run_in_pytorch(checkpoint, golden(seed), sample_bgr)
    gold.check(outputs, golden(seed), tolerance=1e-4)
    assert np.abs(outputs["features"] - golden(seed)["features"]).max() < 1e-4
    expected = gold.refined_logits(checkpoint.tensors, golden(seed))
    assert np.abs(outputs["refined_logits"] - expected).max() < 1e-4


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.full)])
def test_onnx(seed, full_repositories, golden, sample_bgr):
    """1e-3, the contract's tolerance for ONNX on CPU in FP32."""
    outputs = InProcessEnsemble(RECOGNITION, full_repositories(seed)).run(gold.inputs(sample_bgr, golden(seed)))
    gold.check(outputs, golden(seed), tolerance=1e-3)
