"""A build's options: one object, made of the command line."""

from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from export import arguments
from export.arguments import UsageError, build_options, parse_args
from export.options import Options

CHANGES: dict[str, dict[str, Any]] = {
    "--checkpoints weights": {"checkpoints": Path("weights")},
    "--repository there": {"repository": Path("there")},
    "--precision int8 --calibration images": {"precision": "int8", "calibration": Path("images")},
    "--precision bf16": {"precision": "bf16", "backend": "openvino"},
    "--channel-order rgb": {"channel_order": "rgb"},
    "--coordination-step 0.1": {"coordination_step": 0.1},
    "--detector-size 1280": {"detector_size": 1280},
    "--cores 16": {"cores": 16},
    "--only fusion vi_head": {"only": ("fusion", "vi_head")},
    "--force": {"force": True},
    "--reuse here --reuse there": {"reuse": (Path("here"), Path("there"))},
    "--trust-checkpoint": {"trust_checkpoint": True},
    "--tolerance fusion=0.01 --tolerance vi_head=2": {"tolerances": {"fusion": 0.01, "vi_head": 2.0}},
    "--backend tensorrt": {"backend": "tensorrt"},
    "--backend onnxruntime": {},
    "--accelerator cuda": {"accelerator": "cuda"},
    "--engine-cache /cache": {"engine_cache": PurePosixPath("/cache")},
    "--workspace 0.5": {"workspace_gib": 0.5},
    "--hardware-compatibility ampere+": {"hardware_compatibility": "ampere+"},
    "--version-compatible": {"version_compatible": True},
    "--optimization-level 5": {"optimization_level": 5},
}


@pytest.fixture(autouse=True)
def a_machine_of_two_cores(monkeypatch):
    monkeypatch.setattr(arguments, "cores", lambda: 2)


def test_defaults():
    assert build_options(parse_args([]), "scrfd") == Options()
    assert not build_options(parse_args([]), "opencv").scrfd


@pytest.mark.parametrize("given", CHANGES)
def test_each_argument_changes_its_option(given):
    options = asdict(build_options(parse_args(given.split()), "scrfd"))
    assert options == {**asdict(Options()), **CHANGES[given]}


def test_every_option_is_the_users():
    changed = {name for changes in CHANGES.values() for name in changes} | {"detection"}
    assert changed == set(asdict(Options()))


def test_what_follows_from_options():
    assert [Options(backend="tensorrt").on_gpu, Options(accelerator="cuda").on_gpu, Options().on_gpu] == [1, 1, 0]


def test_the_machine_that_builds_is_the_one_that_serves_unless_told(monkeypatch, capsys):
    monkeypatch.setattr(arguments, "cores", lambda: 12)
    assert build_options(parse_args([]), "scrfd").cores == 12
    with pytest.raises(SystemExit):
        parse_args(["--cores", "0"])
    assert "must be a whole number above 0, got '0'" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["96", "650", "2592", "0", "-640", "large"])
def test_sizes_that_detectors_can_not_have(size, capsys):
    with pytest.raises(SystemExit):
        parse_args(["--detector-size", size])
    assert "--detector-size" in capsys.readouterr().err


def test_a_size_needs_detectors():
    with pytest.raises(
        UsageError, match=r"--detector-size is SCRFD's: it needs .*scrfd_person_2.5g.onnx and .*det_10g"
    ):
        build_options(parse_args(["--detector-size", "320"]), "opencv")
    assert build_options(parse_args(["--detector-size", "640"]), "opencv").detector_size == 640
