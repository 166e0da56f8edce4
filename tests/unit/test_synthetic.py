"""The synthetic rule, against values drawn by the official code's harness."""

import json

import numpy as np
import pytest

from cocoer.checkpoints.keys import manifest
from cocoer.checkpoints.synthetic import main, synthetic_array, synthetic_tensors
from tests.conftest import DATA

SAMPLES = json.loads((DATA / "synthetic_samples.json").read_text())


@pytest.mark.parametrize("key", SAMPLES["first_values"])
def test_first_values(key):
    part, name = ("CLIP_RN50", key[len("clip.") :]) if key.startswith("clip.") else ("GWT", key)
    array = synthetic_array(SAMPLES["seed"], key, manifest()[part][name])
    expected = np.array(SAMPLES["first_values"][key], dtype=np.float32)
    np.testing.assert_array_equal(array.reshape(-1)[: len(expected)], expected)


def test_manifest_has_every_key_of_the_official_files():
    assert {part: len(keys) for part, keys in manifest().items()} == {"GWT": 1305, "CLIP_RN50": 489}


def test_of_clip_only_the_image_tower():
    keys = [key for key, _ in synthetic_tensors(3, "CLIP_RN50")]
    assert keys
    assert all(key.startswith("visual.") for key in keys)


def test_does_not_overwrite_unasked(tmp_path, capsys):
    (tmp_path / "GWT.pth").write_text("precious")
    assert main(["--out", str(tmp_path)]) == 1
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "GWT.pth").read_text() == "precious"
