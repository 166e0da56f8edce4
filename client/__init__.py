"""Client of the CocoER server: ``CocoerClient``, ``AsyncCocoerClient``, and the command ``client/infer.py``."""

from client.aio import AsyncCocoerClient
from client.client import CocoerClient
from client.connection import TLS
from client.errors import (
    CocoerError,
    InvalidInput,
    InvalidRequest,
    RequestTimeout,
    ServerBusy,
    ServerError,
    ServerUnavailable,
)
from client.results import Box, Coordination, ModelInfo, Person, Result

__all__ = [
    "TLS",
    "AsyncCocoerClient",
    "Box",
    "CocoerClient",
    "CocoerError",
    "Coordination",
    "InvalidInput",
    "InvalidRequest",
    "ModelInfo",
    "Person",
    "RequestTimeout",
    "Result",
    "ServerBusy",
    "ServerError",
    "ServerUnavailable",
]
