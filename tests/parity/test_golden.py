"""The official code's outputs, reproduced by the PyTorch modules and by the ONNX engines."""

import numpy as np
import onnxruntime as ort
import pytest

from cocoer.checkpoints.loader import Identity, checkpoint_from_tensors
from cocoer.checkpoints.synthetic import synthetic_tensors
from export.models.specs import RECOGNITION, EnsembleSpec, engine
from export.publishing.repository import engine_path
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


def run_ensemble(spec: EnsembleSpec, repository, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What Triton does with an ensemble, in-process."""
    tensors = dict(inputs)
    for step in spec.steps:
        session = ort.InferenceSession(str(engine_path(repository, step.model)), providers=["CPUExecutionProvider"])
        names = [tensor.name for tensor in engine(step.model).outputs]
        results = session.run(names, {own: tensors[theirs] for own, theirs in step.inputs.items()})
        tensors |= {step.outputs[name]: array for name, array in zip(names, results) if name in step.outputs}
    return {tensor.name: tensors[tensor.name] for tensor in spec.outputs}


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.full)])
def test_onnx(seed, full_repositories, golden, sample_bgr):
    """1e-3, the contract's tolerance for ONNX on CPU in FP32."""
    outputs = run_ensemble(RECOGNITION, full_repositories(seed), gold.inputs(sample_bgr, golden(seed)))
    gold.check(outputs, golden(seed), tolerance=1e-3)
