"""Client of the CocoER server: ``CocoerClient``, and the command ``client/infer.py``."""

from client.client import TLS, CocoerClient
from client.errors import CocoerError, InvalidRequest, RequestTimeout, ServerBusy, ServerError, ServerUnavailable

__all__ = [
    "TLS",
    "CocoerClient",
    "CocoerError",
    "InvalidRequest",
    "RequestTimeout",
    "ServerBusy",
    "ServerError",
    "ServerUnavailable",
]
