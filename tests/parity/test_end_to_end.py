"""The release's architecture, from checkpoint files to what the command line prints, against the official outputs."""

import json

import numpy as np
import pytest

from cocoer.checkpoints.loader import load_checkpoint
from serving.server import TritonServer
from tests import golden as gold
from tests.conftest import SAMPLE, STEPS, run_python
from tests.serving.test_served import TOLERANCE, check_result


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.full)])
def test_from_the_command_line(seed, step, checkpoints, full_repositories, golden, tmp_path):
    official = golden(seed, step)
    boxes = [{"body": row[:4].tolist(), "head": row[4:].tolist()} for row in gold.person_rows(official)]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    with TritonServer(full_repositories(seed, step), tmp_path / "log") as server:
        options = ["--persons", tmp_path / "boxes.json", "--json", "-", "--output-dir", tmp_path, "--url", server.url]
        run = run_python("client/infer.py", SAMPLE, *options)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    check_result(result, official)
    assert result["model"]["coordination_step"] == step
    assert result["model"]["weights"].startswith(f"synthetic seed {seed} (")
    logits = gold.refined_logits(load_checkpoint(checkpoints(seed)).tensors, official)
    for person, levels in zip(result["persons"], logits):
        for refined, level in zip(person["refined"].values(), levels):
            np.testing.assert_allclose(refined, 1 / (1 + np.exp(-level.astype(np.float64))), rtol=0, atol=TOLERANCE)
