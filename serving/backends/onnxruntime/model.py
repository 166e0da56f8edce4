"""Triton backend ``onnxruntime`` in Python: serves ``model.onnx`` where Triton has no native ONNX Runtime backend.

It reads the same ``config.pbtxt``, and what it reads means to it what it means to the native backend: the kind of
``instance_group``, ``default_model_filename``, ``optimization.graph.level``, the accelerator ``cuda``, and the
parameters in ``PARAMETERS``. The launcher tells it what the command line says (``--backend-config=onnxruntime,...``),
for Triton does not. It differs in two settings, which the native backend leaves at ONNX Runtime's defaults: threads
sleep when they wait, and work is dealt in small blocks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

# ONNX Runtime's wheels, since 1.29, report to their maker what they run unless this is set when they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort  # noqa: E402

Arrays = list[np.ndarray[Any, Any]]

PARAMETERS = (
    "intra_op_thread_count",
    "inter_op_thread_count",
    "execution_mode",
    "enable_mem_arena",
    "enable_mem_pattern",
    "memory.enable_memory_arena_shrinkage",
    "session.use_device_allocator_for_initializers",
)
"""What it reads of a configuration's ``parameters``; others it ignores, as the native backend does."""
WORDS_VARIABLE = "COCOER_ONNXRUNTIME_CONFIG"
"""What the command line says to this backend, as a JSON object; the launcher sets it."""


def boolean(text: str) -> bool:
    """A parameter as Triton's backends read it; raises ValueError for what is neither."""
    known = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
    if text.lower() not in known:
        raise ValueError(f"a parameter must be true or false, got {text!r}")
    return known[text.lower()]


def parameters_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Those of ``PARAMETERS`` that a model configuration (as JSON) sets."""
    given = config.get("parameters", {})
    return {name: given[name]["string_value"] for name in PARAMETERS if name in given}


def thread_counts(parameters: Mapping[str, str], words: Mapping[str, str]) -> tuple[int, int]:
    """Threads within an operator and across operators; 0: as many as there are cores.

    Args:
        parameters: see ``parameters_of``.
        words: of the command line. With a global pool its counts take the place of the configuration's, as in the
            native backend; but each model is a process of its own here, and has a pool of that size.
    """
    source = words if boolean(words.get("enable-global-threadpool", "0")) else parameters
    # The native backend takes counts below 0 for 0.
    intra, inter = (max(0, int(source.get(f"{kind}_op_thread_count", 0))) for kind in ("intra", "inter"))
    return intra, inter


def session_options(config: Mapping[str, Any], words: Mapping[str, str]) -> ort.SessionOptions:
    """ONNX Runtime's options from a model configuration (as JSON) and the words of the command line.

    Raises:
        ValueError: a parameter is none of its values.
    """
    parameters = parameters_of(config)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = thread_counts(parameters, words)
    mode = int(parameters.get("execution_mode", 0))
    if mode not in (0, 1):
        raise ValueError(f"execution_mode must be 0 or 1, got {mode}")
    options.execution_mode = (ort.ExecutionMode.ORT_SEQUENTIAL, ort.ExecutionMode.ORT_PARALLEL)[mode]
    options.enable_cpu_mem_arena = boolean(parameters.get("enable_mem_arena", "1"))
    options.enable_mem_pattern = boolean(parameters.get("enable_mem_pattern", "1"))
    for name in PARAMETERS:
        if name.startswith("session.") and name in parameters:
            options.add_session_config_entry(name, parameters[name])
    # Every model has threads of its own on the same cores: one that spins takes them from the others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Small blocks of work: a thread that was kept from its core does not hold up the others for long.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    levels = ort.GraphOptimizationLevel
    chosen = {-1: levels.ORT_ENABLE_BASIC, 1: levels.ORT_ENABLE_EXTENDED, 2: levels.ORT_DISABLE_ALL}
    options.graph_optimization_level = chosen.get(level, levels.ORT_ENABLE_ALL)
    return options


def run_options(config: Mapping[str, Any]) -> ort.RunOptions:
    """What every run is told: the arenas to give memory back to the system afterwards, if the configuration says."""
    options = ort.RunOptions()
    shrinkage = "memory.enable_memory_arena_shrinkage"
    if shrinkage in (parameters := parameters_of(config)):
        options.add_run_config_entry(shrinkage, parameters[shrinkage])
    return options


def providers(kind: str, device: str, config: Mapping[str, Any]) -> list[Any]:
    """Execution providers for an instance: CUDA on a GPU, if this onnxruntime has it; else the CPU, and a warning."""
    if kind != "GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pb_utils.Logger.log_warn("this onnxruntime has no CUDA: serving on the CPU; onnxruntime-gpu would use the GPU")
        return ["CPUExecutionProvider"]
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    given = accelerators.get("gpu_execution_accelerator", [])
    chosen: dict[str, str] = next((one.get("parameters", {}) for one in given if one["name"] == "cuda"), {})
    # TF32, which it takes for FP32 unless told not to, has 10 bits of mantissa.
    return [("CUDAExecutionProvider", {"use_tf32": "0", **chosen, "device_id": device}), "CPUExecutionProvider"]


class TritonPythonModel:
    """One instance: one ONNX Runtime session."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """The configuration is complete as written."""
        return config

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        filename = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"], args["model_version"], filename)
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{path} not found; build it with: python export/build_engines.py")
        chosen = providers(args["model_instance_kind"], args["model_instance_device_id"], config)
        words = json.loads(os.environ.get(WORDS_VARIABLE) or "{}")
        self.session = ort.InferenceSession(str(path), session_options(config, words), providers=chosen)
        self.run_options = run_options(config)
        self.batched = config.get("max_batch_size", 0) > 0
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch of requests: one run where the model is batched, else one run each."""
        feeds = [self._feed(request) for request in requests]
        if not self.batched or len(requests) == 1:
            return [self._answer(feed) for feed in feeds]
        rows = [len(feed[0]) for feed in feeds]
        try:
            outputs = self._run([np.concatenate(arrays) for arrays in zip(*feeds)])
        except Exception:  # one request's data must not fail its neighbours: each on its own then
            return [self._answer(feed) for feed in feeds]
        ends = np.cumsum(rows)
        return [self._response([x[end - count : end] for x in outputs]) for end, count in zip(ends, rows)]

    def _feed(self, request: Any) -> Arrays:
        return [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs]

    def _answer(self, feed: Arrays) -> Any:
        try:
            return self._response(self._run(feed))
        except Exception as error:
            pb_utils.Logger.log_error(f"onnxruntime: {error}")
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(f"ONNX Runtime failed: {type(error).__name__}")
            )

    def _run(self, feed: Arrays) -> Arrays:
        return list(self.session.run(self.outputs, dict(zip(self.inputs, feed)), self.run_options))

    def _response(self, outputs: Arrays) -> Any:
        tensors = [pb_utils.Tensor(name, np.ascontiguousarray(x)) for name, x in zip(self.outputs, outputs)]
        return pb_utils.InferenceResponse(tensors)
