"""The model clients call: encoded pictures in, the CocoER output dictionary out.

Business logic scripting over two ensembles, ``detection`` and ``recognition``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from cocoer_bls.errors import InputError
from cocoer_bls.options import Options
from cocoer_bls.pipeline import Job, Limits, Pipeline, Tensors


class InferenceError(RuntimeError):
    """A model of the repository failed."""


def infer(model: str, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
    """Run a model of this server.

    Raises:
        InferenceError: it answered with an error.
    """
    request = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=list(outputs),
        inputs=[pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in inputs.items()],
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
    )
    response = request.exec()
    if response.has_error():
        raise InferenceError(f"{model}: {response.error().message()}")
    return {name: pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in outputs}


class TritonPythonModel:
    """One instance of ``cocoer``."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        directory = Path(args["model_repository"], args["model_version"])
        build_file = directory / "build.json"
        if not build_file.is_file():
            raise pb_utils.TritonModelException(
                f"{build_file} not found: this repository is not completely built; run: python export/build_engines.py"
            )
        self.defaults = Options.from_config(parameters)
        limits = Limits(*(int(parameters[name]["string_value"]) for name in ("max_pixels", "max_persons")))
        labels = (directory / "labels.txt").read_text().splitlines()
        build = json.loads(build_file.read_text())
        self.pipeline = Pipeline(infer, labels, build, limits)
        self.pipeline.warm_up()
        if build["synthetic"]:
            pb_utils.Logger.log_warn(f"cocoer serves {build['weights']}: predictions mean nothing")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch; requests share one detection and one recognition call."""
        parsed = [self._parse(request) for request in requests]
        jobs = [job for part in parsed if isinstance(part, list) for job in part]
        try:
            self.pipeline.run(jobs)
        except Exception as error:  # a failing model fails the pictures on their way, not the instance
            for job in jobs:
                job.error = job.error or error
        return [self._respond(part) if isinstance(part, list) else _error_response(part) for part in parsed]

    def _parse(self, request: Any) -> list[Job] | Exception:
        try:
            options = self.defaults.override(request.parameters())
            images = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy().reshape(-1)
            tensor = pb_utils.get_input_tensor_by_name(request, "PERSONS")
            if tensor is None:
                return [Job(data, options) for data in images]
            persons = tensor.as_numpy()
            if len(persons) != len(images):
                raise InputError(f"PERSONS has a batch of {len(persons)}, IMAGE one of {len(images)}")
            return [Job(data, options, boxes) for data, boxes in zip(images, persons)]
        except Exception as error:  # answered for this request alone
            return error

    def _respond(self, jobs: list[Job]) -> Any:
        """A request's response: an error if its only picture failed; in a batch, an ``error`` object in its place."""
        texts = []
        for job in jobs:
            if job.error is None:
                texts.append(self.pipeline.result(job))
            elif len(jobs) == 1:
                return _error_response(job.error)
            else:
                code, message = _describe(job.error)
                texts.append(json.dumps({"error": {"code": code, "message": message}}))
        result = np.array([[text.encode()] for text in texts], dtype=np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("RESULT", result)])


def _describe(error: Exception) -> tuple[str, str]:
    """Name of the status code, and message for the caller; what is not the caller's doing is logged and kept short."""
    if isinstance(error, InputError):
        return "INVALID_ARG", str(error)
    pb_utils.Logger.log_error(f"cocoer: {type(error).__name__}: {error}")
    return "INTERNAL", "recognition failed on the server; its log says why"


def _error_response(error: Exception) -> Any:
    code, message = _describe(error)
    # Looked up now: the stub adds TritonError to pb_utils only after this module is imported.
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, getattr(pb_utils.TritonError, code)))
