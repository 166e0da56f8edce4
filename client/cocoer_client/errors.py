"""Why an image has no result; each message is one line a person can act on."""

from __future__ import annotations

from tritonclient.utils import InferenceServerException

from cocoer_client.protocol import MODEL

NO_CONNECTION = (
    "failed to connect", "failed to pick subchannel", "connection reset", "connection refused", "connection timed out",
    "connection dropped", "connections to all backends failing", "connection attempt timed out", "socket closed",
    "broken pipe", "stream removed", "goaway", "keepalive", "recvmsg", "sendmsg", "dns resolution failed",
    "name resolution failure", "network is unreachable", "no route to host", "channel shutdown", "endpoint closing",
)  # fmt: skip
"""What gRPC itself says (in small letters), as UNAVAILABLE, where no server has answered."""
HANDSHAKE = ("handshake", "certificate", "ssl", "tls")
"""In gRPC's messages (in small letters) where a server is there, and no connection is made for lack of trust."""
EXPIRED = "Request timeout expired"
"""What Triton says, as UNAVAILABLE, when a request has waited longer than it may."""
NOT_READY = ("not ready", "unknown model", "is not found", "no available versions")
"""What it says, under several codes, where the model is not there."""
RESTRICTED = "protocol is restricted"
"""What it says, as UNAVAILABLE, where a call needs a key."""
STUB = "Stub process"
"""What it says, as INTERNAL, when a process of the model has died; the server is about to be started anew."""
SHARED_MEMORY = "Failed to increase the shared memory pool size"
"""What it says, as INTERNAL, while its /dev/shm is full."""
TOO_LARGE = "larger than max"
"""What gRPC says, as RESOURCE_EXHAUSTED, of a message; of anything else it means that there is no room for now."""


class CocoerError(Exception):
    """Base of this package's errors."""


class InvalidInput(CocoerError):
    """An image, array or file of the caller's that can't be sent; nothing was."""


class SourceUnavailable(CocoerError):
    """An image can't be read for now: the network, the bucket or the disk that it is on failed."""


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


class ModelChanged(CocoerError):
    """The server answers with another model than at the run's beginning; its answer is not kept."""


def is_gone(error: Exception | None) -> bool:
    """Whether the server is gone, so that all other requests would fail the same way."""
    return isinstance(error, ServerUnavailable) and not isinstance(error, ServerBusy)


def may_pass(error: Exception) -> bool:
    """Whether the same image may have a result later: the server or what it is read from, not the image, was at fault.

    What may pass is asked again, and never counts as done; what may not is written down.
    """
    return isinstance(error, (ServerUnavailable, RequestTimeout, ServerError, SourceUnavailable))


def translate(error: InferenceServerException, url: str, timeout: float) -> CocoerError:
    """A failed call as this package's error.

    Args:
        error: Triton's client's.
        url: the server's address.
        timeout: seconds that were allowed.
    """
    code, message = (error.status() or "").rpartition(".")[2], error.message() or ""
    if code == "UNAVAILABLE":
        return _unavailable(message, url, timeout)
    if code == "DEADLINE_EXCEEDED":
        return _too_late(url, timeout)
    if code == "INVALID_ARGUMENT":
        return InvalidRequest(message)
    if code == "NOT_FOUND":
        return _no_model(url, message)
    if code == "RESOURCE_EXHAUSTED":
        return InvalidRequest(message) if TOO_LARGE in message else _busy(url, message)
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return _no_key(url, message)
    if code == "INTERNAL" and STUB in message:
        return _busy(url, message)
    if code == "INTERNAL" and SHARED_MEMORY in message:
        return _busy(url, "it is short of shared memory")
    return ServerError(f"the server at {url} failed: {message}")


def _unavailable(message: str, url: str, timeout: float) -> CocoerError:
    """Of the code that Triton, gateways and gRPC itself use for all that may pass; only their words tell it apart."""
    if EXPIRED in message:
        return _too_late(url, timeout)
    if any(sign in message for sign in NOT_READY):
        return _no_model(url, message)
    if RESTRICTED in message:
        return _no_key(url, message)
    words = message.lower()
    if any(sign in words for sign in HANDSHAKE):
        return ServerUnavailable(
            f"no secure connection to {url}: does the server use TLS, and is its certificate by an authority "
            f"you trust? ({message.splitlines()[0]})"
        )
    if any(sign in words for sign in NO_CONNECTION):
        return ServerUnavailable(
            f"no server at {url}; start one with: tritonserver --model-repository model_repository"
        )
    return _busy(url, message)


def _too_late(url: str, timeout: float) -> RequestTimeout:
    return RequestTimeout(f"no answer from {url} within {timeout:g} s; raise --timeout, or look at the server's load")


def _no_model(url: str, message: str) -> ServerUnavailable:
    return ServerUnavailable(f"the server at {url} has no ready model {MODEL!r}: {message}")


def _busy(url: str, message: str) -> ServerBusy:
    return ServerBusy(f"the server at {url} is busy: {message}")


def _no_key(url: str, message: str) -> ServerError:
    return ServerError(f"the server at {url} refuses this call without its key: {message}")
