"""Triton backend ``openvino`` in Python: serves ``model.onnx`` where Triton has no native OpenVINO backend.

It reads the same ``config.pbtxt``, and what it reads means to it what it means to the native backend:
``default_model_filename`` and the parameters in ``PARAMETERS``. As there, a model with a ``max_batch_size`` is refused
unless it is 0: the native backend fixes the batch at that size. It differs in two settings, which the native backend
leaves at OpenVINO's defaults: threads are not bound to cores, for each model is a process of its own here and all
would choose the same ones; and a batch without rows is refused, which natively never comes to an answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

# Importing openvino tells Intel so where openvino-telemetry is installed as well; with None, an import of that fails.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
try:
    import openvino
except ImportError as error:
    raise pb_utils.TritonModelException(
        "this model runs in bf16, which needs the package openvino: make setup-openvino, or pip install --no-deps "
        "--require-hashes -r requirements-openvino.lock"
    ) from error

Arrays = list[np.ndarray[Any, Any]]


def _count(name: str, text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{name} must be a non-negative number, got {text}")
    return int(text)


def _precision(name: str, text: str) -> str:
    if text.lower() != "yes":
        raise ValueError(f"{name} must be YES, got {text}")
    return "bf16"


def _streams(name: str, text: str) -> str:
    if text.lower() in ("auto", "numa"):
        return text.upper()
    if not text.isdecimal():
        raise ValueError(f"{name} must be AUTO, NUMA or a number, got {text}")
    return text


def _hint(name: str, text: str) -> str:
    known = ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT")
    if text.upper() not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {text}")
    return text.upper()


PARAMETERS: dict[str, tuple[str, Callable[[str, str], int | str]]] = {
    "INFERENCE_NUM_THREADS": ("INFERENCE_NUM_THREADS", _count),
    "COMPILATION_NUM_THREADS": ("COMPILATION_NUM_THREADS", _count),
    "HINT_BF16": ("INFERENCE_PRECISION_HINT", _precision),
    "NUM_STREAMS": ("NUM_STREAMS", _streams),
    "PERFORMANCE_HINT": ("PERFORMANCE_HINT", _hint),
}
"""What it reads of a configuration's ``parameters`` -> OpenVINO's property, and what the value becomes."""


def properties_of(config: Mapping[str, Any]) -> dict[str, int | str]:
    """OpenVINO's properties from a model configuration (as JSON).

    Raises:
        ValueError: a parameter is none of its values.
    """
    given = config.get("parameters", {})
    properties: dict[str, int | str] = {"ENABLE_CPU_PINNING": False}
    for name, (property_name, read) in PARAMETERS.items():
        if name in given:
            properties[property_name] = read(name, given[name]["string_value"])
    return properties


class TritonPythonModel:
    """One instance: one compiled model."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """The configuration is complete as written."""
        return config

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        filename = config.get("default_model_filename") or "model.xml"
        path = Path(args["model_repository"], args["model_version"], filename)
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{path} not found; build it with: python export/build_engines.py")
        if config.get("max_batch_size", 0):
            raise pb_utils.TritonModelException(
                f"{config['name']}: the OpenVINO backend would fix the batch at max_batch_size; it must be 0"
            )
        compiled = openvino.Core().compile_model(path, "CPU", properties_of(config))
        self.request = compiled.create_infer_request()
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests one by one: without a ``max_batch_size`` Triton joins none."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            feed = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            if not all(len(array) for array in feed.values()):
                return pb_utils.InferenceResponse(error=pb_utils.TritonError("a batch has at least one row"))
            return self._response(self._run(feed))
        except Exception as error:
            pb_utils.Logger.log_error(f"openvino: {error}")
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"OpenVINO failed: {type(error).__name__}"))

    def _run(self, feed: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
        self.request.infer(feed, share_inputs=True)
        # Copies: the next request's outputs will lie where these do.
        return [self.request.get_tensor(name).data.copy() for name in self.outputs]

    def _response(self, outputs: Arrays) -> Any:
        tensors = [pb_utils.Tensor(name, x) for name, x in zip(self.outputs, outputs)]
        return pb_utils.InferenceResponse(tensors)
