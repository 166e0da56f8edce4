"""Uvicorn whose end is seen at once: its ten looks a second would be waited for two or three at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn.server

LOOK = 0.01
"""Seconds between two looks, at most."""


class _Asyncio:
    """The module, as ``uvicorn.server`` sees it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(min(seconds, LOOK))


def look_often() -> None:
    """For all servers in this process; what they do when they end is uvicorn's own."""
    vars(uvicorn.server)["asyncio"] = _Asyncio()
