"""Why an image has no result; each message is one line a person can act on."""

from __future__ import annotations

from tritonclient.utils import InferenceServerException

from cocoer_client.protocol import MODEL

BUSY = ("Exceeds maximum queue size", "short of memory", "is being started anew", "Stub process")
"""What a server that works says when it refuses a request for now."""
HANDSHAKE = ("handshake", "certificate", "ssl", "tls")
"""In gRPC's messages (in small letters) where a server is there, and no connection is made for lack of trust."""
EXPIRED = "Request timeout expired"
"""What it says when a request has waited longer than it may."""


class CocoerError(Exception):
    """Base of this package's errors."""


class InvalidInput(CocoerError):
    """An image, array or file of the caller's that can't be sent; nothing was."""


class ServerUnavailable(CocoerError):
    """No server at the address, or its model is not ready."""


class ServerBusy(ServerUnavailable):
    """The server refused the request for now: its queue is full, or it is short of memory or a model."""


class RequestTimeout(CocoerError):
    """No answer in time."""


class InvalidRequest(CocoerError):
    """The server can't use the image, the boxes or a parameter; the message says what is wrong."""


class ServerError(CocoerError):
    """The server failed."""


def is_gone(error: Exception | None) -> bool:
    """Whether the server is gone, so that all other requests would fail the same way."""
    return isinstance(error, ServerUnavailable) and not isinstance(error, ServerBusy)


def translate(error: InferenceServerException, url: str, timeout: float) -> CocoerError:
    """A failed call as this package's error.

    Args:
        error: Triton's client's.
        url: the server's address.
        timeout: seconds that were allowed.
    """
    status, message = error.status() or "", error.message() or ""
    if "DEADLINE_EXCEEDED" in status or EXPIRED in message:
        return RequestTimeout(
            f"no answer from {url} within {timeout:g} s; raise --timeout, or look at the server's load"
        )
    if "INVALID_ARGUMENT" in status:
        return InvalidRequest(message)
    if "not ready" in message or "unknown model" in message or "is not found" in message:
        return ServerUnavailable(f"the server at {url} has no ready model {MODEL!r}: {message}")
    if any(sign in message for sign in BUSY):
        return ServerBusy(f"the server at {url} is busy: {message}")
    if "protocol is restricted" in message:
        return ServerError(f"the server at {url} refuses this call without its key: {message}")
    if "UNAVAILABLE" in status and any(sign in message.lower() for sign in HANDSHAKE):
        return ServerUnavailable(
            f"no secure connection to {url}: does the server use TLS, and is its certificate by an authority "
            f"you trust? ({message.splitlines()[0]})"
        )
    if "UNAVAILABLE" in status:
        return ServerUnavailable(
            f"no server at {url}; start one with: tritonserver --model-repository model_repository"
        )
    return ServerError(f"the server at {url} failed: {message}")
