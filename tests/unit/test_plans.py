"""TensorRT plans and the machine: what the served model refuses, and what it reads off the machine's libraries."""

import doctest
import json
import os
import subprocess
import sys

import pytest

from cocoer_bls import plans
from cocoer_bls.plans import Gpu, Machine, PlanError, check, misfit
from tests.conftest import PROJECT
from tests.tensorrt_api import shared_library

COMMAND = "python export/build_engines.py --backend tensorrt --precision fp16"
BUILT = {
    "tensorrt": "10.16.0.72",
    "version_compatible": False,
    "compute_capability": "9.0",
    "hardware_compatibility": "none",
    "gpu": "NVIDIA H100",
    "command": COMMAND,
}
H100, H200, L4, T4 = (
    Gpu(name, capability)
    for name, capability in (("NVIDIA H100", "9.0"), ("NVIDIA H200", "9.0"), ("NVIDIA L4", "8.9"), ("Tesla T4", "7.5"))
)
RUBIN = Gpu("NVIDIA Vera Rubin", "10.7")


def test_examples():
    assert doctest.testmod(plans).failed == 0


@pytest.mark.parametrize(
    ("changes", "machine", "told"),
    [
        ({}, Machine((10, 16, 0), (H100,)), ""),
        ({}, Machine((10, 16, 0), (H200,)), ""),
        ({}, Machine((10, 16, 0), ()), ""),
        ({}, Machine((10, 16, 1), (H100,)), "was built by TensorRT 10.16.0.72, and this is 10.16.1"),
        ({}, Machine((11, 2, 1), (H100,)), "and this is 11.2.1"),
        ({}, Machine(None, ()), "there is no TensorRT here"),
        ({}, Machine((10, 16, 0), (L4,)), "for compute capability 9.0 (NVIDIA H100), and here is 8.9 (NVIDIA L4)"),
        ({}, Machine((10, 16, 0), (H100, L4)), "here is 8.9"),
        ({"version_compatible": True}, Machine((10, 17, 0), (H100,)), ""),
        ({"version_compatible": True}, Machine((10, 15, 0), (H100,)), "and this is 10.15.0"),
        ({"version_compatible": True}, Machine((11, 0, 0), (H100,)), ""),
        ({"version_compatible": True}, Machine((11, 4, 1), (H100, H200)), ""),
        ({"version_compatible": True}, Machine((11, 4, 1), (L4,)), "here is 8.9"),
        (
            {"version_compatible": True},
            Machine((12, 0, 0), (H100,)),
            "is 12.0.0; a version-compatible plan runs on later",
        ),
        ({"version_compatible": True, "tensorrt": "11.1.0.1"}, Machine((11, 4, 1), (H100,)), ""),
        (
            {"version_compatible": True, "tensorrt": "11.1.0.1"},
            Machine((11, 0, 0), (H100,)),
            "this is 11.0.0; a version",
        ),
        ({"version_compatible": True, "tensorrt": "11.1.0.1"}, Machine((10, 16, 1), (H100,)), "is 10.16.1; a version"),
        (
            {"version_compatible": True, "tensorrt": "8.6.1.6"},
            Machine((11, 4, 1), (H100,)),
            "this is 11.4.1; a version",
        ),
        ({"hardware_compatibility": "ampere+"}, Machine((10, 16, 0), (L4, H200)), ""),
        ({"hardware_compatibility": "ampere+"}, Machine((10, 16, 0), (T4,)), "here is 7.5 (Tesla T4)"),
        ({"hardware_compatibility": "ampere+"}, Machine((10, 16, 0), (RUBIN,)), ""),
        (
            {"hardware_compatibility": "ampere+", "compute_capability": "7.5"},
            Machine((10, 16, 0), (L4,)),
            "here is 8.9",
        ),
        ({"hardware_compatibility": "same-compute-capability"}, Machine((10, 16, 0), (H200,)), ""),
        ({"hardware_compatibility": "same-compute-capability"}, Machine((10, 16, 0), (L4,)), "here is 8.9"),
    ],
)
def test_misfits(changes, machine, told):
    problem = misfit({**BUILT, **changes}, machine)
    assert told in problem if told else problem == ""


@pytest.fixture
def repository(tmp_path):
    """Two plans of an H100."""
    for name in ("fusion", "vi_head"):
        path = tmp_path / name / "1" / "model.plan.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(BUILT))
    return tmp_path


MODELS = ["fusion", "vi_head"]


def test_plans_that_fit(repository):
    assert check(repository, MODELS, Machine((10, 16, 0), (H100,))) == []
    (warning,) = check(repository, MODELS, Machine((10, 16, 0), (H200,)))
    assert warning.startswith(
        "plans were built on NVIDIA H100, this is NVIDIA H200: they may be slower or fail; --hardw"
    )
    assert check(repository, [], Machine(None, ())) == []


def test_refusal_names_plans_and_command(repository):
    with pytest.raises(PlanError) as caught:
        check(repository, MODELS, Machine((10, 13, 3), (H100,)))
    for text in ("fusion's plan was built by TensorRT 10.16.0.72", "vi_head's plan", f"Build them here: {COMMAND}"):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        "{}",
        '{"tensorrt": "new", "version_compatible": false}',
        json.dumps({**BUILT, "hardware_compatibility": "all"}),
        json.dumps({key: value for key, value in BUILT.items() if key != "gpu"}),
    ],
)
def test_damaged_sidecars(repository, content):
    path = repository / "fusion" / "1" / "model.plan.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(PlanError, match=r"fusion/1/model.plan.json can't be read .*Build them here: python export"):
        check(repository, MODELS, Machine((10, 16, 0), (H100,)))


DRIVER = """
#include <string.h>
int cuInit(unsigned f) { return 0; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *d, int i) { *d = 40 + i; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strcpy(s, d == 40 ? "NVIDIA H200" : "NVIDIA L4"); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = d == 40 ? (a == 75 ? 9 : 0) : (a == 75 ? 8 : 9); return 0; }
"""
ASK = "from cocoer_bls.plans import this_machine as m; print(m())"


def ask(libraries):
    """What a process says of a machine with these libraries."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    environment["PYTHONPATH"] = str(PROJECT)
    result = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    return eval(result.stdout, {"Machine": Machine, "Gpu": Gpu})


@pytest.mark.parametrize(("major", "number", "version"), [(10, 101602, (10, 16, 2)), (11, 110201, (11, 2, 1))])
def test_the_machine_is_read_off_its_libraries(tmp_path, major, number, version):
    shared_library(tmp_path / f"libnvinfer.so.{major}", f"int getInferLibVersion() {{ return {number}; }}")
    shared_library(tmp_path / "libcuda.so.1", DRIVER)
    assert ask(tmp_path) == Machine(version, (H200, L4))


def test_a_machine_without(tmp_path):
    assert ask(tmp_path) == Machine(None, ())
    shared_library(tmp_path / "libcuda.so.1", "int cuInit(unsigned f) { return 100; }")  # no device
    shared_library(tmp_path / "libnvinfer.so.10", "int other() { return 0; }")
    assert ask(tmp_path) == Machine(None, ())
