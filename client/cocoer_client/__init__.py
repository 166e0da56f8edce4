"""Client of the CocoER server: ``CocoerClient``, ``AsyncCocoerClient``, and what they give and raise.

The library: ``client`` and ``aio`` on ``connection`` (a call, its retries), ``inputs`` (images and boxes to tensors),
``batches`` (several images), ``results`` (RESULT, and its ``schema``), ``errors``, ``protocol`` (the served model's
names and limits). The folders ``infer``, ``batch``, ``drawing`` and ``video`` are the commands'; the library imports
none of them.
"""

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
