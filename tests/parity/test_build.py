"""export/build_engines.py: what it keeps, what it rebuilds, what it refuses, what it leaves behind."""

import json
import os
import shutil

import numpy as np
import onnx
import pytest
import torch

from cocoer.checkpoints.loader import load_checkpoint
from cocoer.labels import EMOTIC_LABELS
from cocoer.network.model import CocoER
from cocoer_bls import plans
from export import build_engines, builder
from export.arguments import UsageError, find_detectors
from export.graphs import OPSET
from export.models import CONTEXT_ENCODER, DETECTORS, MODELS, model
from export.options import Options
from export.publishing.configs import all_configs, to_text
from export.publishing.layout import onnx_path
from export.verification.verify import Parity
from serving.cores import cores
from tests.conftest import run_python
from tests.fake_tensorrt import gpu_machine

BUILD = "export/build_engines.py"


@pytest.fixture
def repository(repositories, tmp_path):
    """A built repository (tiny, OpenCV) of the test's own; unchanged files are links."""
    target = tmp_path / "repository"
    shutil.copytree(repositories("opencv"), target, copy_function=os.link)
    return target


@pytest.fixture
def common(tiny_checkpoints, repository):
    """Arguments of the build that made it."""
    return ["--checkpoints", str(tiny_checkpoints), "--repository", str(repository), "--detectors", "opencv"]


def stamps(repository):
    return {path: path.stat().st_mtime_ns for path in repository.rglob("*.onnx")}


def test_nothing_changed_rebuilds_nothing(common, repository):
    before = stamps(repository)
    result = run_python(BUILD, *common, "--json")
    assert result.returncode == 0, result.stderr
    assert stamps(repository) == before
    report = json.loads(result.stdout)
    assert {row["status"] for row in report["engines"]} == {"kept"}
    assert "WARNING: synthetic weights" in result.stderr


def test_report(repository):
    report = json.loads((repository / "build_report.json").read_text())
    assert [row["name"] for row in report["engines"]] == [one.name for one in MODELS]
    assert report["synthetic"]
    assert report["weights"].startswith("synthetic seed 0, tiny")
    for row in report["engines"]:
        assert row["parity"]["passed"]
        assert row["parity"]["max_error"] <= row["parity"]["tolerance"] == model(row["name"]).tolerances.fp32


def test_graphs(repository):
    """Opset 20, the table's names in its order, weights inside."""
    for one in MODELS:
        file = onnx.load(onnx_path(repository, one.name), load_external_data=False)
        assert [entry.version for entry in file.opset_import if entry.domain == ""] == [OPSET]
        assert [value.name for value in file.graph.input] == [tensor.name for tensor in one.inputs]
        assert [value.name for value in file.graph.output] == [tensor.name for tensor in one.outputs]
        assert not any(tensor.external_data for tensor in file.graph.initializer)
        assert all(value.type.tensor_type.shape.dim[0].dim_param for value in file.graph.input)


def test_damaged_file_is_rebuilt(common, repository, capsys):
    path = onnx_path(repository, "context_gather")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])
    assert build_engines.main([*common, "--json"]) == 0
    rows = {row["name"]: row["status"] for row in json.loads(capsys.readouterr().out)["engines"]}
    assert rows.pop("context_gather") == "built"
    assert set(rows.values()) == {"kept"}
    assert path.stat().st_size == len(content)


def test_failing_model_does_not_replace_a_good_one(common, repository, monkeypatch, capsys):
    """Nor does a good one of the same build: the repository is left as it was, and servable."""
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in repository.rglob("*") if path.is_file()}
    real = builder.verify

    def verify(one, *rest):
        if one.name == "context_gather":
            return Parity(0.5, "person_tokens, random input, batch 1", 0.0)
        return real(one, *rest)

    monkeypatch.setattr(builder, "verify", verify)
    assert build_engines.main([*common, "--only", "context_gather", "person_detector", "--force"]) == 1
    captured = capsys.readouterr()
    assert "context_gather: VerificationError: error 0.5 in person_tokens" in captured.err
    assert f"{repository} was left as it was. What was built is kept for the next run." in captured.err
    statuses = {line.split()[0]: line for line in captured.out.splitlines() if line}
    assert "failed" in statuses["context_gather"]
    assert "built" in statuses["person_detector"]
    after = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in repository.rglob("*") if path.is_file()}
    assert after == before


def test_tolerance_by_hand(common, repository, monkeypatch, capsys):
    """It accepts a model, is told in both files and on the screen, and rebuilds nothing; without it the model fails."""
    real, name = builder.verify, "context_gather"

    def verify(one, compare, samples, tolerance):
        if one.name == name:
            return Parity(0.5, "person_tokens, random input, batch 1", *tolerance)
        return real(one, compare, samples, tolerance)

    def built():
        return json.loads((repository / "cocoer" / "1" / "build.json").read_text())["tolerances"]

    assert built() == {}
    monkeypatch.setattr(builder, "verify", verify)
    assert build_engines.main([*common, "--only", name, "--force"]) == 1
    assert "the tolerance is 0. A model should differ" in (told := capsys.readouterr().err)
    assert f"--tolerance {name}=0.53 accepts the model" in told

    assert build_engines.main([*common, "--only", name, "--force", "--tolerance", f"{name}=0.53"]) == 0
    assert "0.53 by hand (default 0e+00)" in capsys.readouterr().out
    by_hand = {name: {"tolerance": 0.53, "default": 0.0, "error": 0.5}}
    report = json.loads((repository / "build_report.json").read_text())
    assert report["tolerances"] == built() == by_hand
    assert [(row["parity"]["tolerance"], row["parity"]["default"]) for row in report["engines"]] == [(0.53, 0.0)]

    before = stamps(repository)
    assert build_engines.main([*common, "--json"]) == 1
    captured = capsys.readouterr()
    rows = {row["name"]: row for row in json.loads(captured.out)["engines"]}
    assert rows.pop(name)["status"] == "failed"
    assert {row["status"] for row in rows.values()} == {"kept"}
    assert "was left as it was" in captured.err
    assert built() == by_hand
    assert build_engines.main([*common, "--only", "fusion"]) == 0
    assert f"{name} missing, or built with other options, so {repository} was left" in capsys.readouterr().err
    assert build_engines.main([*common, "--tolerance", f"{name}=1", "--json"]) == 0
    assert {row["status"] for row in json.loads(capsys.readouterr().out)["engines"]} == {"kept"}
    assert built()[name]["tolerance"] == 1
    assert stamps(repository) == before


def test_unusable_weights_are_told_once(tmp_path, tiny_checkpoints, repository):
    """A checkpoint of something else: one message with a list, not one for each model."""
    directory = tmp_path / "checkpoints"
    (directory / "clip").mkdir(parents=True)
    os.link(tiny_checkpoints / "clip" / "RN50.pt", directory / "clip" / "RN50.pt")
    torch.save({"model": {"ln_after.weight": torch.zeros(3), "other.weight": torch.zeros(1)}}, directory / "GWT.pth")
    result = run_python(BUILD, "--checkpoints", directory, "--repository", repository)
    assert result.returncode == 2
    assert result.stderr.count("GWT.pth does not fit CocoER") == 1
    assert "1 unexpected: other.weight" in result.stderr
    assert "1 of the wrong shape: ln_after.weight [3] instead of [256]" in result.stderr
    assert "missing: " in result.stderr
    assert "Traceback" not in result.stderr


def test_edits_are_replaced_and_kept_with_the_build_before(common, repository):
    """Configurations and code are the build's; what an operator has tuned can be had back."""
    config = repository / "cocoer" / "config.pbtxt"
    tuned = config.read_text().replace("count: 2", "count: 3")
    config.unlink()
    config.write_text(tuned)
    (repository / "cocoer" / "1" / "cocoer_bls" / "stale.py").write_text("")
    result = run_python(BUILD, *common)
    assert result.returncode == 0, result.stderr
    assert "The build before it is kept: --rollback goes back to it." in result.stderr
    assert not (repository / "cocoer" / "1" / "cocoer_bls" / "stale.py").exists()
    for name, expected in all_configs(Options(cores=cores())).items():
        assert (repository / name / "config.pbtxt").read_text() == to_text(expected)
    assert tuple((repository / "cocoer" / "1" / "labels.txt").read_text().splitlines()) == EMOTIC_LABELS
    result = run_python(BUILD, "--repository", repository, "--rollback")
    assert result.returncode == 0, result.stderr
    assert "is the build before again; --rollback once more takes this back" in result.stderr
    assert config.read_text() == tuned


def test_what_is_of_others_is_refused(common, repository, capsys):
    """Before anything is built; nothing is removed."""
    (repository / "fusion" / "2").mkdir()
    (repository / "fusion" / "2" / "model.plan").write_text("old")
    assert build_engines.main([*common, "--force"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {repository} holds what no build has written (fusion/2/model.plan)")
    assert told.count("\n") == 1
    assert (repository / "fusion" / "2" / "model.plan").read_text() == "old"


def test_nothing_to_roll_back(repository, capsys):
    assert build_engines.main(["--repository", str(repository), "--rollback"]) == 2
    assert capsys.readouterr().err == f"error: {repository} has no earlier build to go back to\n"


def test_a_part_of_a_build_is_not_published(common, repository, capsys):
    """One model with other options: told which are not of it; the repository stays, and the next run has the one."""
    before = (repository / "cocoer" / "1" / "build.json").read_text()
    part = [*common, "--only", "vi_head", "--channel-order", "rgb", "--json"]
    for status in ("built", "kept"):
        assert build_engines.main(part) == 0
        captured = capsys.readouterr()
        assert [row["status"] for row in json.loads(captured.out)["engines"]] == [status]
        assert (
            "Notice: context_encoder, head_encoder, body_encoder missing, or built with other options, so "
            f"{repository} was left as it was" in captured.err
        )
        assert (repository / "cocoer" / "1" / "build.json").read_text() == before


def test_what_fits_is_taken_from_elsewhere(common, repository, tmp_path, capsys):
    """``--reuse``: a repository in another place, built in no time; files are shared, and never written into."""
    elsewhere = [*common, "--repository", str(tmp_path / "elsewhere"), "--json"]
    assert build_engines.main([*elsewhere, "--reuse", str(repository)]) == 0
    assert {row["status"] for row in json.loads(capsys.readouterr().out)["engines"]} == {"kept"}
    before = stamps(repository)
    assert build_engines.main([*elsewhere, "--force", "--only", "context_gather"]) == 0
    assert stamps(repository) == before


def test_interrupted(common, repository, monkeypatch, capsys):
    """Ctrl-C: the repository is what it was, and what was made before is not made again."""
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in repository.rglob("*") if path.is_file()}
    real = builder.verify

    def verify(one, *rest):
        if one.name == "context_gather":
            raise KeyboardInterrupt
        return real(one, *rest)

    monkeypatch.setattr(builder, "verify", verify)
    forced = [*common, "--channel-order", "rgb", "--only", "vi_head", "context_gather", "--force"]
    assert build_engines.main(forced) == 130
    assert "interrupted; the repository was left as it was" in capsys.readouterr().err
    after = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in repository.rglob("*") if path.is_file()}
    assert after == before
    monkeypatch.undo()
    assert build_engines.main([*forced[:-1], "--json"]) == 0
    rows = {row["name"]: row["status"] for row in json.loads(capsys.readouterr().out)["engines"]}
    assert rows == {"vi_head": "kept", "context_gather": "kept"}


@torch.no_grad()
def test_rgb(tiny_checkpoints):
    """Channels are turned in the graph: RGB of the turned image is BGR of the image."""
    network = CocoER.from_checkpoint(load_checkpoint(tiny_checkpoints))
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8))
    bgr, rgb = (CONTEXT_ENCODER.module(network, order, "fp32") for order in ("bgr", "rgb"))
    logits = bgr(pixels)[2]
    torch.testing.assert_close(rgb(pixels.flip(3))[2], logits)
    assert (rgb(pixels)[2] - logits).abs().max() > 1e-3


def test_plans_from_the_command_line(common, repository, monkeypatch, capsys):
    """Built, verified, installed with their configurations; kept; refused elsewhere; not replaced by wrong ones."""
    trt = gpu_machine(monkeypatch)
    build = [*common, "--backend", "tensorrt", "--json"]
    assert build_engines.main(build) == 0
    report = json.loads(capsys.readouterr().out)
    planned = [one.name for one in MODELS if one not in DETECTORS]  # this repository has no SCRFD
    assert {row["name"]: row["status"] for row in report["plans"]} == dict.fromkeys(planned, "built")
    assert all(row["parity"]["passed"] for row in report["plans"])
    manifest = json.loads((repository / "cocoer" / "1" / "build.json").read_text())
    assert (manifest["backend"], manifest["plans"]) == ("tensorrt", planned)
    assert (manifest["detection"], manifest["detector"]) == ("opencv", "opencv-haar")
    for name in planned:
        assert f"{name}/1/model.plan" in manifest["files"]
        assert 'backend: "tensorrt"' in (repository / name / "config.pbtxt").read_text()
    assert plans.check(repository, planned) == []
    elsewhere = plans.Machine((10, 16, 0), (plans.Gpu("NVIDIA L4", "8.9"),))
    with pytest.raises(plans.PlanError, match=r"Build them here: python export/build_engines.py .*--backend tensorrt"):
        plans.check(repository, planned, elsewhere)

    assert build_engines.main(build) == 0
    assert {row["status"] for row in json.loads(capsys.readouterr().out)["plans"]} == {"kept"}
    assert len(trt.built) == len(planned)

    before = {path: path.read_bytes() for path in repository.rglob("*.plan*")}
    trt.wrong = 0.5
    assert build_engines.main([*common, "--backend", "tensorrt", "--workspace", "8"]) == 1
    captured = capsys.readouterr()
    assert "error: context_gather, plan: VerificationError: error 0.5 against ONNX Runtime" in captured.err
    assert "was left as it was. What was built is kept" in captured.err
    assert {path: path.read_bytes() for path in repository.rglob("*.plan*")} == before
    assert (repository / "cocoer" / "1" / "build.json").exists()

    assert build_engines.main([*common, "--json"]) == 0  # back to ONNX Runtime
    assert not list(repository.rglob("*.plan*"))


def test_plans_with_tf32_do_not_pass(common, repository, monkeypatch, capsys):
    """Its products have 10 bits of mantissa: too few for what is FP32."""
    gpu_machine(monkeypatch).tf32_on = True
    assert build_engines.main([*common, "--backend", "tensorrt"]) == 1
    assert "error: fusion, plan: VerificationError: error" in capsys.readouterr().err
    assert not list(repository.rglob("*.plan*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"No checkpoint: GWT.pth and clip/RN50.pt not found"),
        ([], "pass --synthetic"),
        (["--backend", "tensorrt"], "--backend tensorrt needs TensorRT, and this Python has none"),
        (["--backend", "tensorrt", "--accelerator", "cuda"], "--accelerator is ONNX Runtime's"),
        (["--precision", "int8"], "--precision int8 and --calibration FOLDER"),
        (["--precision", "int8", "--calibration", ".", "--accelerator", "cuda"], "--precision int8 is for CPUs"),
        (["--precision", "fp16", "--accelerator", "tensorrt"], "use --backend tensorrt, which does"),
        (["--workspace", "0"], "argument --workspace: must be above 0, got 0"),
        (["--coordination-step", "-0.1"], "argument --coordination-step: must be at least 0, got -0.1"),
        (["--coordination-step", "nan"], "argument --coordination-step: must be a number, got 'nan'"),
    ],
)
def test_usage_errors(arguments, message, tmp_path, capsys):
    command = ["--checkpoints", str(tmp_path / "none"), "--repository", str(tmp_path / "r"), *arguments]
    try:
        code = build_engines.main(command)
    except SystemExit as ended:  # argparse's own
        code = ended.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_repository_that_is_a_file(tiny_checkpoints, tmp_path):
    (tmp_path / "file").write_text("")
    result = run_python(
        BUILD, "--checkpoints", tiny_checkpoints, "--repository", tmp_path / "file", "--only", "context_gather"
    )
    assert result.returncode != 0
    assert f"{tmp_path}/file" in result.stderr
    assert "Traceback" not in result.stderr


def test_detector_choice(tmp_path):
    """SCRFD where both files are; else OpenCV, and a notice that names what is missing."""
    with pytest.raises(UsageError, match=r"--detectors scrfd needs .*scrfd_person_2.5g.onnx and .*det_10g.onnx"):
        find_detectors(tmp_path, "scrfd")
    (tmp_path / "insightface").mkdir()
    (tmp_path / "insightface" / "det_10g.onnx").touch()
    detection, notice = find_detectors(tmp_path, "auto")
    assert detection == "opencv"
    assert "scrfd_person_2.5g.onnx not found" in notice
    assert "det_10g" not in notice
    (tmp_path / "insightface" / "scrfd_person_2.5g.onnx").touch()
    assert find_detectors(tmp_path, "auto") == ("scrfd", "")
    assert find_detectors(tmp_path, "opencv") == ("opencv", "")
