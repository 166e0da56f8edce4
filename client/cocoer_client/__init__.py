"""Client of the CocoER server: ``CocoerClient``, ``AsyncCocoerClient``, and what they give and raise.

The library: ``client`` and ``aio`` on ``connection`` (a call, its retries), ``inputs`` (images and boxes to tensors),
``batches`` (several images in a request), ``ordered`` and ``ordered_async`` (several requests at once), ``results``
(RESULT, and its ``schema``), ``columns``, ``tables``, ``exports`` and ``coco`` (RESULT as tables and annotations),
``key`` (what decides a result), ``limits`` (what the served model takes), ``errors``, ``signals``, ``protocol`` (the
model's names and sizes). The folders ``sources`` (what users name), ``drawing``, ``video`` and ``timeline``, ``sinks``
and ``pipeline`` (many images, without a command line), ``infer`` and ``batch`` (the commands) are built on it. Names
are imported when they are first asked for, so that a command can decide what gRPC says before gRPC is imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cocoer_client.aio import AsyncCocoerClient
    from cocoer_client.client import CocoerClient
    from cocoer_client.connection import TLS
    from cocoer_client.errors import (
        CocoerError,
        InvalidInput,
        InvalidRequest,
        ModelChanged,
        RequestTimeout,
        ServerBusy,
        ServerError,
        ServerLost,
        ServerUnavailable,
    )
    from cocoer_client.limits import ModelLimits
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
    "ModelChanged",
    "ModelInfo",
    "ModelLimits",
    "Person",
    "RequestTimeout",
    "Result",
    "ServerBusy",
    "ServerError",
    "ServerLost",
    "ServerUnavailable",
]

_HOMES = {
    "aio": ("AsyncCocoerClient",),
    "client": ("CocoerClient",),
    "connection": ("TLS",),
    "errors": (
        "CocoerError",
        "InvalidInput",
        "InvalidRequest",
        "ModelChanged",
        "RequestTimeout",
        "ServerBusy",
        "ServerError",
        "ServerLost",
        "ServerUnavailable",
    ),
    "limits": ("ModelLimits",),
    "results": ("Box", "Coordination", "ModelInfo", "Person", "Result"),
}
"""Module -> names of ``__all__`` that it has."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            globals()[name] = value = getattr(import_module(f"{__name__}.{home}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
