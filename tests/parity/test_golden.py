"""The official code's outputs, reproduced by the PyTorch modules and by the ONNX files."""

import numpy as np
import pytest
import torch

from cocoer.checkpoints.loader import load_checkpoint
from cocoer.network.model import CocoER, imagenet_normalise
from export.models import RECOGNITION
from export.verification.in_process import InProcessEnsemble
from tests import golden as gold
from tests.conftest import SEEDS


@pytest.mark.parametrize("seed", SEEDS)
def test_pytorch(seed, checkpoints, golden, sample_bgr):
    """1e-4, the contract's tolerance for PyTorch modules; features too."""
    checkpoint = load_checkpoint(checkpoints(seed))
    assert checkpoint.synthetic
    assert checkpoint.weights.startswith(f"synthetic seed {seed}")
    model, normalise = CocoER.from_checkpoint(checkpoint), imagenet_normalise()
    given = {name: torch.from_numpy(array) for name, array in gold.inputs(sample_bgr, golden(seed)).items()}
    fused, head, body, context, vi_logits = model(
        normalise(given["image"]),
        normalise(given["head_crop"]),
        given["head_box"],
        normalise(given["body_crop"]),
        given["body_box"],
        given["image_index"],
    )
    outputs = {
        **fused._asdict(),
        "head_logits": head.logits,
        "body_logits": body.logits,
        "context_logits": context.logits,
        "vi_logits": vi_logits,
    }
    gold.check({name: tensor.numpy() for name, tensor in outputs.items()}, golden(seed), tolerance=1e-4)
    assert np.abs(fused.features.numpy() - golden(seed)["features"]).max() < 1e-4
    expected = gold.refined_logits(checkpoint.tensors, golden(seed))
    assert np.abs(fused.refined_logits.numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("seed", SEEDS)
def test_onnx(seed, repositories, golden, sample_bgr):
    """1e-3, the contract's tolerance for ONNX on CPU in FP32."""
    outputs = InProcessEnsemble(RECOGNITION, repositories(seed)).run(gold.inputs(sample_bgr, golden(seed)))
    gold.check(outputs, golden(seed), tolerance=1e-3)
