"""The Python-based ONNX Runtime backend reads a configuration's keys as Triton's native one does."""

import importlib.util
import json
import sys
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
from onnx import parser

from export.models import MODELS
from export.options import Options
from export.publishing.configs import all_configs
from serving import threads
from tests.conftest import PROJECT

NATIVE = {
    "level": "of optimization.graph: -1 basic, 1 extended, 2 none, else all",
    "intra_op_thread_count": "threads within an operator; 0: as many as cores",
    "inter_op_thread_count": "threads across operators, where execution_mode is 1; 0: as many as cores",
    "execution_mode": "0: one operator after the other, 1: side by side; anything else is refused",
    "enable_mem_arena": "whether freed memory is kept for the next run",
    "enable_mem_pattern": "whether the memory of a shape is laid out at once",
    "memory.enable_memory_arena_shrinkage": "arenas that give memory back after each run",
    "session.use_device_allocator_for_initializers": "weights outside the arena (from 25.01 on)",
    "enable-global-threadpool": "of the command line: one pool for all models; counts come from the command line then",
}
"""Key -> what it does; onnxruntime_backend's README and src/onnxruntime.cc, releases 24.10 and 26.06."""
NOT_READ = {
    "cudnn_conv_algo_search": "deprecated there for the accelerator cuda's own",
    "gpu_mem_limit": "likewise",
    "arena_extend_strategy": "likewise",
    "do_copy_in_default_stream": "likewise",
    "openvino": "a cpu_execution_accelerator; onnxruntime's wheel has none",
    "tensorrt": "a gpu_execution_accelerator; needs TensorRT, with which containers bring the native backend",
    "default-max-batch-size": "of the command line, for configurations that say no max_batch_size; ours do",
}
"""The same source's other keys -> why the stand-in does without."""


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
    """Dots in a name are two underscores here."""
    return {"parameters": {key.replace("__", "."): {"string_value": value} for key, value in parameters.items()}}


def at_level(level):
    return {"optimization": {"graph": {"level": level}}}


LEVELS = ort.GraphOptimizationLevel
POOL = {"enable-global-threadpool": "1", "intra_op_thread_count": "3", "inter_op_thread_count": "2"}
SHRINKAGE = "memory.enable_memory_arena_shrinkage"
ALLOCATOR = "session.use_device_allocator_for_initializers"
KEYS = [
    # key of NATIVE, configuration, words of the command line, attribute of ONNX Runtime's options, its value
    ("level", {}, {}, "graph_optimization_level", LEVELS.ORT_ENABLE_ALL),
    ("level", at_level(-1), {}, "graph_optimization_level", LEVELS.ORT_ENABLE_BASIC),
    ("level", at_level(1), {}, "graph_optimization_level", LEVELS.ORT_ENABLE_EXTENDED),
    ("level", at_level(2), {}, "graph_optimization_level", LEVELS.ORT_DISABLE_ALL),
    ("level", at_level(99), {}, "graph_optimization_level", LEVELS.ORT_ENABLE_ALL),
    ("intra_op_thread_count", {}, {}, "intra_op_num_threads", 0),
    ("intra_op_thread_count", config(intra_op_thread_count="3"), {}, "intra_op_num_threads", 3),
    ("intra_op_thread_count", config(intra_op_thread_count="-1"), {}, "intra_op_num_threads", 0),
    ("inter_op_thread_count", config(inter_op_thread_count="2"), {}, "inter_op_num_threads", 2),
    ("execution_mode", {}, {}, "execution_mode", ort.ExecutionMode.ORT_SEQUENTIAL),
    ("execution_mode", config(execution_mode="0"), {}, "execution_mode", ort.ExecutionMode.ORT_SEQUENTIAL),
    ("execution_mode", config(execution_mode="1"), {}, "execution_mode", ort.ExecutionMode.ORT_PARALLEL),
    ("enable_mem_arena", {}, {}, "enable_cpu_mem_arena", True),
    *[
        ("enable_mem_arena", config(enable_mem_arena=t), {}, "enable_cpu_mem_arena", False)
        for t in ("0", "False", "off")
    ],
    *[("enable_mem_arena", config(enable_mem_arena=t), {}, "enable_cpu_mem_arena", True) for t in ("1", "TRUE", "on")],
    ("enable_mem_pattern", {}, {}, "enable_mem_pattern", True),
    ("enable_mem_pattern", config(enable_mem_pattern="0"), {}, "enable_mem_pattern", False),
    ("enable-global-threadpool", config(intra_op_thread_count="9"), POOL, "intra_op_num_threads", 3),
    ("enable-global-threadpool", config(inter_op_thread_count="9"), POOL, "inter_op_num_threads", 2),
    (
        "enable-global-threadpool",
        config(intra_op_thread_count="9"),
        {**POOL, "enable-global-threadpool": "off"},
        "intra_op_num_threads",
        9,
    ),
]


@pytest.mark.parametrize(("key", "config", "words", "attribute", "expected"), KEYS)
def test_key(backend, key, config, words, attribute, expected):
    assert key in NATIVE
    assert getattr(backend.session_options(config, words), attribute) == expected


def test_keys_of_sessions_and_runs(backend):
    options = backend.session_options(config(session__use_device_allocator_for_initializers="1"), {})
    assert options.get_session_config_entry(ALLOCATOR) == "1"
    assert backend.run_options(config(memory__enable_memory_arena_shrinkage="cpu:0")).get_run_config_entry(
        SHRINKAGE
    ) == ("cpu:0")


def test_every_key_of_the_native_backend_is_known(backend):
    tested = {row[0] for row in KEYS} | {SHRINKAGE, ALLOCATOR}
    assert tested == set(NATIVE)
    assert set(backend.PARAMETERS) == set(NATIVE) - {"level", "enable-global-threadpool"}
    assert not set(NATIVE) & set(NOT_READ)


def test_configurations_use_keys_of_the_native_backend_alone():
    """No key of our own, so that a configuration does not mean less to one backend than to the other."""
    for options in (Options(), Options(precision="fp16"), Options(precision="fp16", accelerator="cuda")):
        configs = all_configs(options)
        assert {key for one in MODELS for key in configs[one.name].parameters} <= set(NATIVE)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"enable_mem_arena": "maybe"}, "must be true or false, got 'maybe'"),
        ({"execution_mode": "2"}, "execution_mode must be 0 or 1, got 2"),
        ({"intra_op_thread_count": "all"}, "all"),
    ],
)
def test_what_the_native_backend_refuses(backend, parameters, message):
    with pytest.raises(ValueError, match=message):
        backend.session_options(config(**parameters), {})


def test_options_of_the_accelerator_cuda(backend, monkeypatch):
    """The configuration's; TF32 is off where it does not speak of it."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    configured = {
        "optimization": {
            "execution_accelerators": {
                "gpu_execution_accelerator": [{"name": "tensorrt"}, {"name": "cuda", "parameters": {"a": "b"}}]
            }
        }
    }
    (name, options), fallback = backend.providers("GPU", "1", configured)
    assert (name, fallback) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options == {"use_tf32": "0", "a": "b", "device_id": "1"}
    assert backend.providers("GPU", "0", {})[0][1] == {"use_tf32": "0", "device_id": "0"}
    assert backend.providers("CPU", "0", configured) == ["CPUExecutionProvider"]


def test_a_model_runs_with_what_was_said(backend, monkeypatch, tmp_path):
    """From the configuration and the launcher's variable to a session; its runs take the shrinkage."""
    (tmp_path / "1").mkdir()
    graph = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[n, 2] a) => (float[n, 2] b) { b = Add (a, a) }'
    )
    (tmp_path / "1" / "model.onnx").write_bytes(graph.SerializeToString())
    described = {
        **config(intra_op_thread_count="2", memory__enable_memory_arena_shrinkage="cpu:0"),
        "input": [{"name": "a"}],
        "output": [{"name": "b"}],
    }
    monkeypatch.setenv(threads.WORDS_VARIABLE, json.dumps(POOL))
    model = backend.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps(described),
            "model_repository": str(tmp_path),
            "model_version": "1",
            "model_instance_kind": "CPU",
            "model_instance_device_id": "0",
        }
    )
    assert model.session.get_session_options().intra_op_num_threads == 3
    assert model.run_options.get_run_config_entry(SHRINKAGE) == "cpu:0"
    np.testing.assert_array_equal(model._run([np.ones((3, 2), np.float32)])[0], np.full((3, 2), 2, np.float32))
    assert backend.WORDS_VARIABLE == threads.WORDS_VARIABLE
