"""A build in bf16 behind a real server: what it answers, and that a machine that can't serve it says so.

On a CPU without bf16 there is no such build; what is tested there is the refusal.
"""

import json

import numpy as np
import pytest

from cocoer.labels import LEVELS
from cocoer_client import CocoerClient
from export.models import RECOGNITION
from export.verification.in_process import InProcessEnsemble
from serving.bf16 import why_not_bf16
from serving.server import TritonServer
from tests import golden as gold
from tests.conftest import run_python

pytestmark = pytest.mark.needs("own_server")
WHY_NOT = why_not_bf16()
TOLERANCE = 5e-2
"""Of bf16's logits, against FP32's."""
SERVED = 1e-3
"""Of the same logits computed in this process, through the probabilities of RESULT."""
NAMES = {"pred": "pred", "vi": "VI", "head": "head", "body": "body", "ctx": "ctx"}
"""A golden file's name -> RESULT's."""
WITHOUT_OPENVINO = "import sys; sys.modules['openvino'] = None; from serving.launcher import main; sys.exit(main())"


def test_refused_where_it_can_not_be_served(tmp_path):
    """By the command, before Triton starts, with the reason: here that the package is missing, or else the CPU's."""
    manifest = tmp_path / "r" / "cocoer" / "1" / "build.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"precision": "bf16"}))
    refused = run_python("-c", WITHOUT_OPENVINO, f"--model-repository={tmp_path / 'r'}", timeout=60)
    assert refused.returncode == 1
    assert (
        f"{tmp_path / 'r'} was built with --precision bf16, which can't be served here: bf16 needs " in refused.stderr
    )
    assert WHY_NOT in refused.stderr


def test_served(request, expected_of_tiny, sample_bgr, sample_bytes, tmp_path):
    """As in this process, and within bf16's tolerance of PyTorch in FP32, with the same exclusion order."""
    if WHY_NOT:
        print(f"only the refusal is tested here: {WHY_NOT}")
        return
    repository = request.getfixturevalue("tiny_bf16_repository")
    rows = gold.person_rows(expected_of_tiny)
    persons = [{"body": row[:4].tolist(), "head": row[4:].tolist()} for row in rows]
    with TritonServer(repository, tmp_path / "log") as server, CocoerClient(server.url, timeout=120) as client:
        result = client.infer_raw(sample_bytes, persons)
    assert result["model"]["precision"] == "bf16"
    found = {key: gold.logits_of([p["scores"][name] for p in result["persons"]]) for key, name in NAMES.items()}
    outputs = InProcessEnsemble(RECOGNITION, repository, in_bf16=True).run(gold.inputs(sample_bgr, expected_of_tiny))
    drift = {key: np.abs(found[key] - expected_of_tiny[key]).max() for key in NAMES}
    apart = {key: np.abs(found[key] - outputs[tensor]).max() for key, tensor in gold.LOGITS.items()}
    print(
        "served in bf16, logits:", ", ".join(f"{key} {drift[key]:.1e} (in process {apart[key]:.1e})" for key in NAMES)
    )
    assert 1e-4 < max(drift.values()) < TOLERANCE  # below that it would not be bf16
    assert max(apart.values()) < SERVED
    order = [[f"{LEVELS[level]}-level" for level in levels] for levels in expected_of_tiny["order"]]
    assert [person["emo_process"] for person in result["persons"]] == order


@pytest.fixture
def expected_of_tiny(tiny_checkpoints, golden, sample_bgr):
    return gold.outputs_in_pytorch(tiny_checkpoints, golden(0), sample_bgr)
