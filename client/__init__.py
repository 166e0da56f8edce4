"""Client of the CocoER server: ``CocoerClient``, and the command ``client/infer.py``."""

from client.client import CocoerClient
from client.errors import CocoerError, InvalidRequest, RequestTimeout, ServerError, ServerUnavailable

__all__ = ["CocoerClient", "CocoerError", "InvalidRequest", "RequestTimeout", "ServerError", "ServerUnavailable"]
