"""Triton backend ``onnxruntime`` in Python: serves ``model.onnx`` where Triton has no native ONNX Runtime backend.

It reads the same ``config.pbtxt`` and honours the native backend's keys: ``instance_group`` kind,
``default_model_filename``, ``optimization.graph.level``, and the parameters ``intra_op_thread_count``,
``inter_op_thread_count``, ``execution_mode``, ``enable_mem_arena``. Two parameters are its own, and mean nothing to the
native one: ``cpu_run_batch``, the largest batch run at once on CPU (bounds memory), and ``cpu_thread_share``, the
share of the cores that a run takes where ``intra_op_thread_count`` does not say.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

Arrays = list[np.ndarray[Any, Any]]


def boolean(text: str) -> bool:
    """A parameter as Triton's backends read it; raises ValueError for what is neither."""
    known = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError(f"a parameter must be true or false, got {text!r}")
    return known[text.lower()]


CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def quotas() -> Iterator[float]:
    """CPUs that the cgroups of this process may use, from its own to the outermost; none where nothing limits them.

    Version 2 has them in ``cpu.max``, version 1 in two files of the controller ``cpu``. A container that sees no
    cgroups but its own has them at the root.
    """
    for line in OWN_CGROUPS.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS
        own = root / path.lstrip("/")
        for directory in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError):
                if controllers:
                    quota = (directory / "cpu.cfs_quota_us").read_text()
                    period = (directory / "cpu.cfs_period_us").read_text()
                else:
                    quota, period = (directory / "cpu.max").read_text().split()
                if float(quota) > 0:  # -1, or "max", which is no number: no limit
                    yield float(quota) / float(period)
            if directory == root:
                break


def cores() -> int:
    """How many this process may use: those of its affinity, or fewer if a container is limited to their time."""
    affinity = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        return max(1, min([affinity, *map(math.ceil, quotas())]))
    return affinity


def session_options(config: dict[str, Any]) -> ort.SessionOptions:
    """ONNX Runtime's options from a model configuration (as JSON)."""
    parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
    options = ort.SessionOptions()
    shared = max(1, round(float(parameters.get("cpu_thread_share", 1)) * cores()))
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 0)) or shared
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", 0))
    if parameters.get("execution_mode", "0") == "1":
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.enable_cpu_mem_arena = boolean(parameters.get("enable_mem_arena", "true"))
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


def providers(kind: str, device: str) -> list[Any]:
    """Execution providers for an instance: CUDA on a GPU, if this onnxruntime has it; else the CPU, and a warning."""
    if kind != "GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pb_utils.Logger.log_warn("this onnxruntime has no CUDA: serving on the CPU; onnxruntime-gpu would use the GPU")
        return ["CPUExecutionProvider"]
    # TF32, which it takes for FP32 unless told not to, has 10 bits of mantissa.
    return [("CUDAExecutionProvider", {"device_id": device, "use_tf32": "0"}), "CPUExecutionProvider"]


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
        chosen = providers(args["model_instance_kind"], args["model_instance_device_id"])
        self.session = ort.InferenceSession(str(path), session_options(config), providers=chosen)
        self.batched = config.get("max_batch_size", 0) > 0
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        parameter = config.get("parameters", {}).get("cpu_run_batch", {})
        on_cpu = self.session.get_providers()[0] == "CPUExecutionProvider"
        self.run_batch = int(parameter.get("string_value", 0)) if on_cpu else 0

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
        batch = len(feed[0])
        if not self.batched or not self.run_batch or batch <= self.run_batch:
            return list(self.session.run(self.outputs, dict(zip(self.inputs, feed))))
        starts = range(0, batch, self.run_batch)
        parts = [
            self.session.run(self.outputs, {n: x[i : i + self.run_batch] for n, x in zip(self.inputs, feed)})
            for i in starts
        ]
        return [np.concatenate(arrays) for arrays in zip(*parts)]

    def _response(self, outputs: Arrays) -> Any:
        tensors = [pb_utils.Tensor(name, np.ascontiguousarray(x)) for name, x in zip(self.outputs, outputs)]
        return pb_utils.InferenceResponse(tensors)
