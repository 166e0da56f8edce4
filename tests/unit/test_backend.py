"""The Python-based ONNX Runtime backend reads the configuration's keys."""

import importlib.util
import os
import sys
from types import SimpleNamespace

import onnxruntime as ort
import pytest

from tests.conftest import PROJECT


@pytest.fixture
def backend(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", SimpleNamespace())
    spec = importlib.util.spec_from_file_location("backend", PROJECT / "serving/backends/onnxruntime/model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(**parameters):
    return {"parameters": {name: {"string_value": value} for name, value in parameters.items()}}


@pytest.mark.parametrize(
    ("share", "cores", "threads"), [("0.5", 2, 1), ("0.5", 16, 8), ("0.5", 1, 1), ("1", 6, 6), ("0", 4, 1)]
)
def test_share_of_the_cores(backend, monkeypatch, share, cores, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    assert backend.session_options(config(cpu_thread_share=share)).intra_op_num_threads == threads


def test_the_native_key_wins(backend):
    options = backend.session_options(config(cpu_thread_share="0.5", intra_op_thread_count="3"))
    assert options.intra_op_num_threads == 3


def test_without_keys_all_cores(backend):
    assert backend.session_options({}).intra_op_num_threads == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("level", "expected"), [(0, "ORT_ENABLE_ALL"), (1, "ORT_ENABLE_EXTENDED"), (-1, "ORT_ENABLE_BASIC")]
)
def test_graph_level(backend, level, expected):
    options = backend.session_options({"optimization": {"graph": {"level": level}}})
    assert options.graph_optimization_level == getattr(ort.GraphOptimizationLevel, expected)
