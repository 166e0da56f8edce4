"""benchmarks/run.py --gpu, proved on the CPU: what it measures, and what it makes of it."""

import json
import os
import re
import shutil

import numpy as np
import pytest

from benchmarks import gpu, gpu_report
from benchmarks.device import Device
from benchmarks.runners import OnnxRunner, TensorRTRunner
from export.models import DETECTORS, FUSION, MODELS
from tests import fake_cuda
from tests.conftest import run_python
from tests.fake_tensorrt import gpu_machine


@pytest.fixture(scope="module")
def reported(checkpoints, full_repositories, fp16_repository, tmp_path_factory):
    """The report of a run, and what it printed; what is built already is kept."""
    home = tmp_path_factory.mktemp("gpu")
    for precision, repository in (("fp32", full_repositories(0)), ("fp16", fp16_repository)):
        (home / f"repository-gpu-{precision}").symlink_to(repository)
    command = ["benchmarks/run.py", "--gpu", "--device", "cpu", "--checkpoints", checkpoints(0), "--cache", home]
    result = run_python(*command, "--output-dir", home / "report")
    assert result.returncode == 0, result.stderr
    return json.loads((home / "report" / "report.json").read_text()), result.stdout


def test_parity_on_the_device(reported):
    report, _ = reported
    assert set(report["precisions"]) == {"fp32", "fp16"}
    for name, precision in report["precisions"].items():
        assert set(precision["runners"]) == {"ONNX Runtime", *(["PyTorch"] if name == "fp32" else [])}
        for runner in precision["runners"].values():
            assert runner["parity"]["passed"]
            assert 0 < max(runner["parity"]["errors"].values()) < runner["parity"]["tolerance"]
    fp32, fp16 = (
        max(report["precisions"][p]["runners"]["ONNX Runtime"]["parity"]["errors"].values()) for p in ("fp32", "fp16")
    )
    assert fp16 > 10 * fp32  # it is another precision that was measured


def test_figures_fit_each_other(reported):
    report, _ = reported
    # A ResNet-50 of 224 x 224 is 8.2 GFLOP; attention and classifier come on top.
    assert report["gflop"]["head_encoder"] == report["gflop"]["body_encoder"]
    assert 8.2 < report["gflop"]["head_encoder"] < 10
    assert all(value > 0 for value in report["ceilings"].values())
    assert report["decode"]["all cores"] > 0
    e = report["precisions"]["fp32"]["end_to_end"]
    assert e["persons_per_second"] == pytest.approx(2 * e["images_per_second"])
    for precision in report["precisions"].values():
        for runner in precision["runners"].values():
            for rows in runner["engines"].values():
                assert [row["batch"] for row in rows] == [1, 2]
                assert all(row["per_second"] == pytest.approx(1000 * row["batch"] / row["ms"]) for row in rows)
    share, batch = gpu_report.trunk_share(report, "fp32")
    assert batch == 2
    # Tera-FLOP per second that the better person encoder reaches, of what a matrix product does.
    per_second = [
        runner["engines"][f"{level}_encoder"][-1]["per_second"]
        for runner in report["precisions"]["fp32"]["runners"].values()
        for level in ("head", "body")
    ]
    reached = report["gflop"]["head_encoder"] * max(per_second) / 1000
    assert share == pytest.approx(reached / report["ceilings"]["fp32_tflops"])


def test_report_for_people(reported):
    report, printed = reported
    text = gpu_report.to_markdown(report)
    assert text in printed
    for told in (
        "**Not a GPU.**",
        "images/s end to end, two persons each",
        "| head_encoder |",
        "| PyTorch |",
        "missed",
    ):
        assert told in re.sub(" +", " ", text)
    assert "FAIL" not in text
    assert gpu_report.slug(report).startswith("gpu-")


def test_plans(tiny_checkpoints, repositories, tmp_path, monkeypatch):
    """Built as the command builds them, of both kinds, read back, run, told in a table; on a stand-in for the GPU."""
    trt, repository = gpu_machine(monkeypatch), tmp_path / "repository"
    shutil.copytree(repositories("opencv"), repository, copy_function=os.link)
    own = [one for one in MODELS if one not in DETECTORS]
    found = gpu.build_plans(tiny_checkpoints, repository, "fp32", "--detectors", "opencv")
    flags = [plan["flags"] for plan in trt.built]
    assert flags == [[]] * len(own) + [["VERSION_COMPATIBLE"]] * len(own)
    for variant in ("exact", "version-compatible"):
        assert [row["name"] for row in found[variant]] == [one.name for one in own]
        assert all(row["status"] == "built" and row["parity"]["passed"] for row in found[variant])
        runner = TensorRTRunner(Device("cpu"), gpu.plan_repository(repository, variant), "fp32")
        assert [row["batch"] for row in gpu.measure_model(runner, FUSION)] == [1, 2]
        parts = recognise_both(runner, repository)
        assert all(np.abs(one - other).max() < 1e-3 for one, other in parts)
        runner.close()
        assert fake_cuda.streams() == 0
    table = gpu_report.plans_table(found)
    assert len(table.splitlines()) == 2 + 2 * len(own)
    assert re.search(r"\| fusion +\| version-compatible +\| .* 1 Float, 2 Half +\| pass +\|", table)

    trt.wrong = 0.5
    options = ("--detectors", "opencv", "--backend", "tensorrt", "--only", "context_gather")
    again = {"exact": gpu.build(tiny_checkpoints, repository, "fp32", *options)["plans"]}
    assert "VerificationError: error 0.5 against ONNX Runtime" in gpu_report.plans_table(again)


def recognise_both(runner, repository):
    """Logits of the golden image by plans, and by the ONNX files that they were built from."""
    given = gpu.golden_inputs()[0]
    by_plans, by_onnx = (gpu.recognise(one, given) for one in (runner, OnnxRunner(runner.device, repository, "fp32")))
    return [(by_plans[name], by_onnx[name]) for name in gpu.LOGITS.values()]


def test_without_a_gpu():
    result = run_python("benchmarks/run.py", "--gpu")
    assert result.returncode == 2
    assert "error: PyTorch sees no GPU here; --device cpu proves the script without one" in result.stderr
