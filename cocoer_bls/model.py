"""The model clients call: encoded images in, the CocoER output dictionary out.

Business logic scripting over two ensembles, ``detection`` and ``recognition``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from cocoer_bls import manifest, plans
from cocoer_bls.errors import Described, InputError, alone, describe, of_model
from cocoer_bls.inputs import Tensors
from cocoer_bls.jobs import Job
from cocoer_bls.metrics import Metrics
from cocoer_bls.options import Limits, Options, wants_answer
from cocoer_bls.pipeline import Pipeline
from cocoer_bls.resampling import why_not

CODES = ("UNAVAILABLE", "CANCELLED")
"""Of failed calls to other models: what is not the model's own failure."""


def infer(model: str, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
    """Run a model of this server.

    Raises:
        ModelUnavailable: its process has died, its queue is full, or the server is stopping.
        Cancelled: the call was cancelled with the request.
        InferenceError: it answered with another error.
    """
    request = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=list(outputs),
        inputs=[pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in inputs.items()],
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
    )
    response = request.exec()
    if response.has_error():
        error = response.error()
        told = (name for name in CODES if error.code() == getattr(pb_utils.TritonError, name))
        raise of_model(model, next(told, "INTERNAL"), error.message())
    answered = {tensor.name(): tensor for tensor in response.output_tensors()}  # pb_utils would look for each in all
    return {name: answered[name].as_numpy() for name in outputs}


def log(level: str, event: str, request_id: str, **details: Any) -> None:
    """One line of JSON: whatever a caller sent can't break out of it."""
    content = {"model": "cocoer", "event": event, "request_id": request_id[:64], **details}
    getattr(pb_utils.Logger, f"log_{level}")(json.dumps(content))


class TritonPythonModel:
    """One instance of ``cocoer``."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        directory = Path(args["model_repository"], args["model_version"])
        build_file = directory / manifest.BUILD_FILE
        if not build_file.is_file():
            raise pb_utils.TritonModelException(
                f"{build_file} not found: this repository is not completely built; run: python export/build_engines.py"
            )
        try:
            build = manifest.read(build_file)
            self._check_files(args, build)
            self.defaults = Options.from_config(parameters)
            limits = Limits.from_config(parameters)
        except KeyError as error:
            raise pb_utils.TritonModelException(
                f"cocoer can't be served: config.pbtxt lacks parameter {error}"
            ) from None
        except (manifest.ManifestError, plans.PlanError, ValueError) as error:
            raise pb_utils.TritonModelException(f"cocoer can't be served: {error}") from None
        labels = (directory / manifest.LABELS_FILE).read_text().splitlines()
        self.metrics = Metrics(pb_utils.MetricFamily, args["model_instance_name"])
        self.pipeline = Pipeline(self._infer, labels, build, limits)
        self.pipeline.warm_up()
        if reason := why_not():
            pb_utils.Logger.log_info(f"cocoer: Pillow cuts the crops, which takes longer: {reason}")
        for warning in manifest.tolerances_by_hand(build):
            pb_utils.Logger.log_warn(f"cocoer: {warning}")
        if build["synthetic"]:
            pb_utils.Logger.log_warn(f"cocoer serves {build['weights']}: predictions mean nothing")

    @staticmethod
    def _check_files(args: dict[str, str], build: dict[str, Any]) -> None:
        """Refuse a repository that is not the one built, or not built for this machine; the first instance looks."""
        if not args["model_instance_name"].endswith("_0"):
            return
        repository = Path(args["model_repository"]).parent
        if not manifest.check(repository, build["files"]):
            pb_utils.Logger.log_warn("cocoer: the other models are not beside this one, so they were not checked")
            return
        for warning in plans.check(repository, build["plans"]):
            pb_utils.Logger.log_warn(f"cocoer: {warning}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch; requests share one detection and one recognition call."""
        with self.metrics.running(len(requests)):
            parsed = [self._parse(request) for request in requests]
            self.pipeline.run([job for part in parsed if isinstance(part, list) for job in part])
            return [self._guarded_response(request, part) for request, part in zip(requests, parsed)]

    def _infer(self, model: str, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        self.metrics.stepped()
        return infer(model, inputs, outputs)

    def _parse(self, request: Any) -> list[Job] | Exception:
        try:
            options = self.defaults.override(request.parameters())
            images = _images(request)
            tensor = pb_utils.get_input_tensor_by_name(request, "PERSONS")
            persons = [None] * len(images) if tensor is None else tensor.as_numpy()
            if len(persons) != len(images):
                raise InputError("request", f"PERSONS has a batch of {len(persons)}, IMAGE one of {len(images)}")
            return [Job(data, options, boxes, cancelled=request.is_cancelled) for data, boxes in zip(images, persons)]
        except Exception as error:  # answered for this request alone
            return alone(error)

    def _guarded_response(self, request: Any, jobs: list[Job] | Exception) -> Any:
        try:
            return self._respond(request, jobs)
        except Exception as error:  # Triton would fail the whole batch, and show the caller a trace
            told, words = describe(error), f"{type(error).__name__}: {error}"
            log("error", "failed", request.request_id(), code=told.code, reason=told.reason, message=words)
            return _error_response(told)

    def _respond(self, request: Any, jobs: list[Job] | Exception) -> Any:
        """A request's response: an error if all of it or its only image failed; else RESULT of each image.

        In a batch, an ``error`` object is in the place of an image that failed; with ``on_refusal`` also where what
        failed was refused, so that its reason is told. What may pass stays the call's own error: callers ask again.
        """
        request_id = request.request_id()
        if isinstance(jobs, Exception):
            told = self._failure(request_id, jobs)
            answered = told.is_refusal and wants_answer(request.parameters())
            return _response([_error_text(told)] * len(_images(request))) if answered else _error_response(told)
        texts = []
        for index, job in enumerate(jobs):
            try:
                if job.error is not None:
                    raise job.error
                texts.append(self.pipeline.result(job))
                self.metrics.answered(request_id, len(job.persons), job.timing)
            except Exception as error:
                told = self._failure(request_id, alone(error), image=index)
                if len(jobs) == 1 and not (told.is_refusal and job.options.on_refusal == "answer"):
                    return _error_response(told)
                texts.append(_error_text(told))
        return _response(texts)

    def _failure(self, request_id: str, error: Exception, image: int = 0) -> Described:
        """Count and log a failure; what its caller is told."""
        told = describe(error)
        code, message, reason = told
        self.metrics.not_answered(request_id, reason)
        details = {"image": image, "code": code, "reason": reason}
        if told.is_refusal:
            log("warn", "rejected", request_id, **details, message=message)
        elif code != "CANCELLED":  # its caller knows
            log("error", "failed", request_id, **details, message=f"{type(error).__name__}: {error}")
        return told


def _images(request: Any) -> Any:
    """The encoded images: bytes [N]."""
    return pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy().reshape(-1)


def _response(texts: Sequence[str]) -> Any:
    result = np.array([[text.encode()] for text in texts], dtype=np.object_)
    return pb_utils.InferenceResponse([pb_utils.Tensor("RESULT", result)])


def _error_text(told: Described) -> str:
    return json.dumps({"error": told._asdict()})


def _error_response(told: Described) -> Any:
    # Looked up now: the stub adds TritonError to pb_utils only after this module is imported.
    code = getattr(pb_utils.TritonError, told.code)
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(told.message, code))
