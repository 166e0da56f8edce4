"""Why a picture has no result; each message is one line a person can act on."""

from __future__ import annotations


class CocoerError(Exception):
    """Base of this package's errors."""


class ServerUnavailable(CocoerError):
    """No server at the address, or its model is not ready."""


class ServerBusy(ServerUnavailable):
    """The server refused the request for now: its queue is full, or it is short of memory or a model."""


class RequestTimeout(CocoerError):
    """No answer in time."""


class InvalidRequest(CocoerError):
    """The server can't use the picture, the boxes or a parameter; the message says what is wrong."""


class ServerError(CocoerError):
    """The server failed."""
