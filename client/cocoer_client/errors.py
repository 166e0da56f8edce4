"""Why an image has no result; each message is one line a person can act on."""

from __future__ import annotations

from tritonclient.utils import InferenceServerException

from cocoer_client.protocol import MODEL

NOBODY = (
    "failed to connect to all addresses", "connections to all backends failing", "failed to pick subchannel",
    "errors resolving", "dns resolution failed", "name resolution failure", "empty address list",
)  # fmt: skip
"""How gRPC itself begins (in small letters), as UNAVAILABLE, where it has reached nobody. A gateway that does not reach
its servers begins otherwise, whatever it says after."""
HANDSHAKE = ("handshake", "certificate", "ssl", "verification")
"""In what it says then (in small letters) where somebody is there, and no connection is made for lack of trust."""
NOT_HTTP2 = ("parsing http/2", "http1")
"""The same where that is no gRPC server."""
CLOSED = ("socket closed", "connection reset")
"""The same where they closed the connection without a word, as with a client that does not speak TLS."""
EXPIRED = "Request timeout expired"
"""What Triton says, as UNAVAILABLE, when a request has waited longer than it may."""
NO_MODEL = "Request for unknown model"
"""What it says, as UNAVAILABLE, where the model is not ready."""
RESTRICTED = "protocol is restricted"
"""What it says, as UNAVAILABLE, where a call needs a key."""
FULL = "Failed to increase the shared memory pool size"
"""What it says, as INTERNAL, while its /dev/shm is full."""
LOST = {
    "INTERNAL": {"stub process": "a process of its model has died; it is about to start anew"},
    "UNKNOWN": {"stream removed": "the connection was lost"},
    "UNAVAILABLE": dict.fromkeys(
        ("socket closed", "connection reset", "broken pipe", "recvmsg", "sendmsg", "connection termination"),
        "the connection was lost",
    ),
}
"""Code -> what is said with it (in small letters) where a request was under way, and how to put that: by Triton of a
process, by gRPC and Envoy of a connection."""
TOO_LARGE = {
    "RESOURCE_EXHAUSTED": ("larger than max",),
    "FAILED_PRECONDITION": ("buffer limit",),
    "UNKNOWN": ("status: 413",),
}
"""Code -> what gRPC, Envoy and gateways of HTTP say with it of a message that is too large."""


class CocoerError(Exception):
    """Base of this package's errors."""


class InvalidInput(CocoerError):
    """An image, array or file of the caller's that can't be sent; nothing was."""


class SourceUnavailable(CocoerError):
    """An image can't be read for now: the network, the bucket or the disk that it is on failed."""


class ServerUnavailable(CocoerError):
    """No server at the address, or its model is not ready."""


class ServerBusy(ServerUnavailable):
    """Not now: the queue is full, memory is short, the server restarts, or a gateway has no server just then."""


class ServerLost(ServerBusy):
    """The server, a process of its model or the connection was lost with the request under way: perhaps for a fault of
    theirs, perhaps for this very image."""


class RequestTimeout(CocoerError):
    """No answer in time."""


class InvalidRequest(CocoerError):
    """The server can't use the image, the boxes or a parameter; the message says what is wrong.

    Args:
        message: in the server's words.
        reason: what kind of wrong it is, as the server's metric ``cocoer_rejected_total`` names it (``format``,
            ``pixels``, ``parameter``, ...); None where the server did not say: with ``on_refusal="answer"`` and in
            ``infer_batch`` it does. ``bytes`` also where a gateway takes no message of this size.
    """

    def __init__(self, message: str = "", *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


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
    if any(sign in message for sign in TOO_LARGE.get(code, ())):
        return InvalidRequest(message, reason="bytes")
    if code == "INTERNAL" and FULL in message:
        return _busy(url, "it is short of shared memory")
    if code == "UNAVAILABLE":
        return _unavailable(message, url, timeout)
    if (lost := _lost(code, message, url)) is not None:
        return lost
    if code in ("RESOURCE_EXHAUSTED", "ABORTED"):
        return _busy(url, message)
    if code == "DEADLINE_EXCEEDED":
        return _too_late(url, timeout)
    if code == "INVALID_ARGUMENT":
        return InvalidRequest(message)
    if code == "NOT_FOUND":
        return _no_model(url, message)
    if code == "UNIMPLEMENTED":
        return _no_triton(url, message)
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return _no_key(url, message)
    return ServerError(f"the server at {url} failed: {message}")


def _unavailable(message: str, url: str, timeout: float) -> CocoerError:
    """Of the code that Triton, gateways and gRPC itself use for what may pass: so it does, but for what is known."""
    if (
        EXPIRED in message
    ):  # of its queue: the time that this client allows, or less, as the server's configuration says
        return RequestTimeout(
            f"the server at {url} did not begin with the request within {timeout:g} s, or within the shorter time that "
            "it lets requests wait; send fewer at a time, or look at its load"
        )
    if NO_MODEL in message:
        return _no_model(url, message)
    if RESTRICTED in message:
        return _no_key(url, message)
    if message.lower().startswith(NOBODY):
        return _nobody(message.splitlines()[0], url)
    return _lost("UNAVAILABLE", message, url) or _busy(url, message)


def _lost(code: str, message: str, url: str) -> ServerLost | None:
    words = message.lower()
    for sign, meaning in LOST.get(code, {}).items():
        if sign in words:
            return ServerLost(f"the server at {url} is restarting, or was lost: {meaning}")
    return None


def _nobody(message: str, url: str) -> ServerUnavailable:
    words = message.lower()
    if any(sign in words for sign in NOT_HTTP2):
        return _no_triton(url, message)
    if any(sign in words for sign in HANDSHAKE):
        return ServerUnavailable(
            f"no secure connection to {url}: does the server use TLS, and is its certificate by an authority "
            f"you trust? ({message})"
        )
    if any(sign in words for sign in CLOSED):
        return ServerUnavailable(
            f"what listens at {url} closes the connection: is it the gRPC port (8001), does it want TLS (--tls-ca) or "
            f"a certificate of yours (--tls-cert)? ({message})"
        )
    return ServerUnavailable(f"no server at {url}; start one with: tritonserver --model-repository model_repository")


def _too_late(url: str, timeout: float) -> RequestTimeout:
    return RequestTimeout(f"no answer from {url} within {timeout:g} s; raise --timeout, or look at the server's load")


def _no_model(url: str, message: str) -> ServerUnavailable:
    return ServerUnavailable(f"the server at {url} has no ready model {MODEL!r}: {message}")


def _no_triton(url: str, message: str) -> ServerUnavailable:
    return ServerUnavailable(f"what answers at {url} is not Triton's gRPC port (8001 unless told otherwise): {message}")


def _busy(url: str, message: str) -> ServerBusy:
    return ServerBusy(f"the server at {url} is busy or restarting: {message}")


def _no_key(url: str, message: str) -> ServerError:
    return ServerError(f"the server at {url} refuses this call without its key: {message}")
