"""Why an image has no result, and what its caller is told."""

from __future__ import annotations

from typing import NamedTuple

REASONS = ("empty", "bytes", "format", "pixels", "scans", "damaged", "persons", "parameter", "request")
"""Why an input can be refused: labels of the metric ``cocoer_rejected_total``."""


class InputError(ValueError):
    """A request that can't be served as it is; the message names what was wrong and what to do.

    Args:
        reason: one of ``REASONS``.
        message: for the caller.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        assert reason in REASONS
        self.reason = reason


class Cancelled(Exception):
    """The caller has gone; nobody waits for the answer."""


class InferenceError(RuntimeError):
    """A model of the repository failed."""


class ModelUnavailable(InferenceError):
    """A model does not run at the moment, or has no room."""


class NoSharedMemory(InferenceError):
    """There was no room for a model's tensors in /dev/shm."""


UNAVAILABLE = ("Stub process", "Server not ready", "Exceeds maximum queue size", "Request timeout expired")
"""In the words of Triton 24.10, whose every error of a call of a Python model is INTERNAL."""
SHARED_MEMORY = "Failed to increase the shared memory pool size"
"""What the Python backend says, as INTERNAL, where /dev/shm is full."""


def of_model(model: str, code: str, message: str) -> InferenceError | Cancelled:
    """The failure of a call to another model.

    Args:
        model: its name.
        code: Triton's name of the failure's code; INTERNAL where Triton does not tell.
        message: Triton's words; they count only where the code is INTERNAL.
    """
    if code == "CANCELLED":
        return Cancelled()
    if code == "UNAVAILABLE" or (code == "INTERNAL" and any(sign in message for sign in UNAVAILABLE)):
        return ModelUnavailable(f"{model}: {message}")
    failed = NoSharedMemory if code == "INTERNAL" and SHARED_MEMORY in message else InferenceError
    return failed(f"{model}: {message}")


class Described(NamedTuple):
    """An error in the caller's words: the fields of RESULT's ``error``."""

    code: str
    """Triton's name of the status code."""
    message: str
    reason: str
    """A label of the metrics ``cocoer_rejected_total`` and ``cocoer_failed_total``."""

    @property
    def is_refusal(self) -> bool:
        """The request is at fault, and will be whenever it comes."""
        return self.code == "INVALID_ARG"


def alone(error: Exception) -> Exception:
    """An error without its traceback and causes: they hold what the functions held that raised it, whole images too."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def describe(error: Exception) -> Described:
    """What the caller is told of an error.

    Only what the caller sent or can do is in the message: no path, no trace, nothing of another request.
    """
    if isinstance(error, InputError):
        return Described("INVALID_ARG", str(error), error.reason)
    if isinstance(error, Cancelled):
        return Described("CANCELLED", "the request was cancelled", "cancelled")
    if isinstance(error, (MemoryError, NoSharedMemory)):
        return Described("UNAVAILABLE", "the server is short of memory for this image; try again later", "memory")
    if isinstance(error, ModelUnavailable):
        return Described("UNAVAILABLE", "the server is being started anew; try again in some seconds", "internal")
    return Described("INTERNAL", "recognition failed on the server; its log says why", "internal")
