"""Client of the CocoER server: ``CocoerClient``, ``AsyncCocoerClient``, and the command ``client/infer.py``."""

from cocoer_client.aio import AsyncCocoerClient
from cocoer_client.client import CocoerClient
from cocoer_client.connection import TLS
from cocoer_client.errors import (
    CocoerError,
    InvalidInput,
    InvalidRequest,
    RequestTimeout,
    ServerBusy,
    ServerError,
    ServerUnavailable,
)
from cocoer_client.results import Box, Coordination, ModelInfo, Person, Result

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
