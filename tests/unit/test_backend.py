"""The Python-based ONNX Runtime backend reads the configuration's keys."""

import importlib.util
import os
import sys
from types import SimpleNamespace

import onnxruntime as ort
import pytest

from tests.conftest import PROJECT


@pytest.fixture
def backend(monkeypatch, tmp_path):
    """The module, on a machine whose cgroups limit nothing."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", SimpleNamespace())
    spec = importlib.util.spec_from_file_location("backend", PROJECT / "serving/backends/onnxruntime/model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(module, "OWN_CGROUPS", tmp_path / "own")
    return module


def config(**parameters):
    return {"parameters": {name: {"string_value": value} for name, value in parameters.items()}}


@pytest.mark.parametrize(
    ("share", "cores", "threads"), [("0.5", 2, 1), ("0.5", 16, 8), ("0.5", 1, 1), ("1", 6, 6), ("0", 4, 1)]
)
def test_share_of_the_cores(backend, monkeypatch, share, cores, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    assert backend.session_options(config(cpu_thread_share=share)).intra_op_num_threads == threads


OWN_2 = "0::/kubepods/pod1/server\n"
OWN_1 = "9:name=systemd:/docker/1\n3:cpuset:/docker/1\n2:cpu,cpuacct:/docker/1\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (OWN_2, {"kubepods/pod1/server/cpu.max": "200000 100000"}, 2),
        (OWN_2, {"kubepods/pod1/server/cpu.max": "max 100000", "kubepods/pod1/cpu.max": "250000 100000"}, 3),
        (OWN_2, {"kubepods/pod1/server/cpu.max": "400000 100000", "kubepods/cpu.max": "50000 100000"}, 1),
        (OWN_2, {"kubepods/pod1/server/cpu.max": "6400000 100000"}, 8),
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        (OWN_1, {"cpu/docker/1/cpu.cfs_quota_us": "300000", "cpu/docker/1/cpu.cfs_period_us": "100000"}, 3),
        (OWN_1, {"cpu/docker/1/cpu.cfs_quota_us": "-1", "cpu/docker/1/cpu.cfs_period_us": "100000"}, 8),
        (OWN_1, {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        (OWN_1, {}, 8),
        (None, {}, 8),
        ("0::/\n", {"cpu.max": "what"}, 8),
    ],
)
def test_cores_of_a_container(backend, monkeypatch, tmp_path, own, files, expected):
    """Eight cores, of whose time a container may have a part (docker --cpus, limits.cpu)."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    if own is not None:
        (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert backend.cores() == expected
    assert backend.session_options({}).intra_op_num_threads == expected


def test_the_native_key_wins(backend):
    options = backend.session_options(config(cpu_thread_share="0.5", intra_op_thread_count="3"))
    assert options.intra_op_num_threads == 3


def test_without_keys_all_cores(backend):
    assert backend.session_options({}).intra_op_num_threads == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("level", "expected"),
    [(0, "ORT_ENABLE_ALL"), (1, "ORT_ENABLE_EXTENDED"), (-1, "ORT_ENABLE_BASIC"), (2, "ORT_DISABLE_ALL")],
)
def test_graph_level(backend, level, expected):
    options = backend.session_options({"optimization": {"graph": {"level": level}}})
    assert options.graph_optimization_level == getattr(ort.GraphOptimizationLevel, expected)


@pytest.mark.parametrize(("text", "on"), [("1", True), ("true", True), ("False", False), ("0", False)])
def test_memory_arena(backend, text, on):
    """Words that the native backend takes too."""
    assert backend.session_options(config(enable_mem_arena=text)).enable_cpu_mem_arena is on


def test_a_parameter_that_is_neither(backend):
    with pytest.raises(ValueError, match="must be true or false, got 'maybe'"):
        backend.session_options(config(enable_mem_arena="maybe"))
