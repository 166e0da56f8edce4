"""The manifest: what belongs to a build, and what an operator may change."""

import doctest
import json
import shutil

import pytest

from cocoer_bls import manifest
from cocoer_bls.decoding import limits
from cocoer_bls.manifest import ManifestError, check, contract_digest, read
from export.models import MODELS
from export.options import Options
from export.publishing.configs import all_configs, to_text
from export.publishing.repository import complete
from export.publishing.repository import files_of as manifest_of
from tests.conftest import PROJECT


@pytest.mark.parametrize("module", [limits, manifest])
def test_doctests(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


CONFIG = to_text(all_configs()["head_encoder"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("count: 1", "count: 4"),
        ("dynamic_batching {\n}", "dynamic_batching { max_queue_delay_microseconds: 100 }"),
        ('string_value: "1"', 'string_value: "3"'),
        ("# Written by", "# Changed by me, was written by"),
        ("max_batch_size: 128", "max_batch_size : 128 # persons"),
        ("input {", "input   {"),
    ],
)
def test_tuning_and_layout_are_the_operators(old, new):
    assert old in CONFIG
    assert contract_digest(CONFIG.replace(old, new)) == contract_digest(CONFIG)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_batch_size: 128", "max_batch_size: 64"),
        ("TYPE_UINT8", "TYPE_FP32"),
        ("dims: [224, 224, 3]", "dims: [256, 256, 3]"),
        ('backend: "onnxruntime"', 'backend: "python"'),
        ('name: "hidden"', 'name: "energy"'),
        ("input {", "sequence_batching { }\ninput {"),
    ],
)
def test_tensors_and_backends_are_the_builds(old, new):
    assert old in CONFIG
    assert contract_digest(CONFIG.replace(old, new, 1)) != contract_digest(CONFIG)


@pytest.fixture
def repository(tmp_path):
    """A repository with a few bytes for each ONNX file."""
    for model in MODELS:
        path = tmp_path / model.name / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_text(model.name)
    complete(Options(repository=tmp_path), {"version": "1", "plans": []})
    return tmp_path


def test_what_was_built_passes(repository):
    files = manifest_of(repository)
    assert check(repository, files)
    assert sum(name.endswith("model.onnx") for name in files) == len(MODELS)
    assert sum(name.endswith("config.pbtxt") for name in files) == len(all_configs())
    assert sum(name.endswith("labels.txt") for name in files) == 3


def swap(repository):
    one, other = (repository / name / "1" / "model.onnx" for name in ("head_encoder", "body_encoder"))
    one.write_text("body_encoder")
    other.write_text("head_encoder")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (swap, ["head_encoder/1/model.onnx is not the file of this build", "body_encoder/1/model.onnx"]),
        (lambda r: (r / "fusion/1/model.onnx").write_text("fus"), ["fusion/1/model.onnx is not the file"]),
        (lambda r: (r / "vi_head/1/model.onnx").unlink(), ["vi_head/1/model.onnx is missing"]),
        (
            lambda r: shutil.rmtree(r / "vi_head"),
            ["vi_head/1/model.onnx is missing", "vi_head/config.pbtxt is missing"],
        ),
        (lambda r: (r / "fusion/labels.txt").write_text("a\nb\n"), ["fusion/labels.txt is not the file"]),
        (lambda r: (r / "fusion/config.pbtxt").write_text('name: "fusion"'), ["fusion/config.pbtxt is not the file"]),
        (lambda r: (r / "fusion/config.pbtxt").write_bytes(b"\xff\xfe"), ["fusion/config.pbtxt can't be read"]),
    ],
)
def test_what_differs_is_named(repository, damage, named):
    files = manifest_of(repository)
    damage(repository)
    with pytest.raises(ManifestError) as caught:
        check(repository, files)
    for text in [*named, "python export/build_engines.py"]:
        assert text in str(caught.value)


def test_unreadable_file_is_named(repository):
    files = manifest_of(repository)
    path = repository / "fusion" / "1" / "model.onnx"
    path.unlink()
    path.mkdir()
    with pytest.raises(ManifestError, match=r"fusion/1/model.onnx can't be read \(Is a directory\)"):
        check(repository, files)


def test_message_stays_short(repository):
    files = manifest_of(repository)
    for model in MODELS:
        (repository / model.name / "1" / "model.onnx").write_text("else")
    with pytest.raises(ManifestError, match="and 5 more"):
        check(repository, files)


def test_models_that_do_not_lie_side_by_side_can_not_be_compared(repository, tmp_path):
    """Triton copies models from cloud storage one by one, each to a place of its own."""
    alone = tmp_path / "alone"
    shutil.copytree(repository / "cocoer", alone / "cocoer")
    assert not check(alone, manifest_of(repository))


def test_committed_code_needs_no_package_of_the_project():
    """What is published stands alone."""
    for path in (PROJECT / "cocoer_bls").rglob("*.py"):
        for line in path.read_text().splitlines():
            assert not line.startswith(("from export", "from cocoer ", "from cocoer.", "import cocoer\n")), path


def test_plans_and_their_sidecars_belong_to_the_build(tmp_path):
    for model in MODELS:
        for name in ("model.onnx", "model.plan", "model.plan.json"):
            path = tmp_path / model.name / "1" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(model.name)
    complete(Options(repository=tmp_path, backend="tensorrt"), {"version": "1", "plans": []})
    files = manifest_of(tmp_path)
    assert check(tmp_path, files)
    assert {f"fusion/1/{name}" for name in ("model.onnx", "model.plan", "model.plan.json")} <= set(files)
    (tmp_path / "fusion" / "1" / "model.plan").write_text("another")
    with pytest.raises(ManifestError, match=r"fusion/1/model.plan is not the file of this build"):
        check(tmp_path, files)
    complete(Options(repository=tmp_path), {"version": "1", "plans": []})  # back to ONNX Runtime
    assert not list(tmp_path.rglob("model.plan*"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"files": {}, "plans": [], "detection": "scrfd", "detector_size": 640}, None),
        ({"files": {}, "plans": [], "detection": "opencv"}, None),
        ({"files": {}, "plans": [], "detection": "scrfd"}, "does not say how large the detectors' letterbox is"),
        ({"files": {}, "plans": [], "detection": "scrfd", "detector_size": "640"}, "does not say how large"),
        ({"files": {}, "detection": "scrfd"}, "lists no files or plans"),
        ({"files": {}, "plans": [], "detector": "opencv-haar"}, "does not say how persons are found"),
        ({"files": {}, "plans": [], "detection": "yolo"}, "does not say how persons are found"),
    ],
)
def test_build_files_of_other_versions_are_refused(tmp_path, content, told):
    path = tmp_path / "build.json"
    path.write_text(json.dumps(content))
    if told is None:
        assert read(path) == content
    else:
        with pytest.raises(ManifestError, match=f"{told}.*python export/build_engines.py"):
            read(path)
