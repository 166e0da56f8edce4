"""The gateway within the test's own process, asked without a socket."""

from __future__ import annotations

import warnings
from typing import Any

from fastapi import FastAPI

from cocoer_client.web.app import create_app
from cocoer_client.web.settings import Settings

with warnings.catch_warnings():
    # That httpx, which the tools of these tests bring, has a successor.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

NOWHERE = "127.0.0.1:1"
"""Where no Triton is."""


def asking(app: FastAPI) -> TestClient:
    """A client of an application, to be used in a ``with`` block."""
    return TestClient(app, raise_server_exceptions=False)


def opened(**given: Any) -> TestClient:
    """A client of a gateway with these settings, in front of no Triton unless they name one."""
    return asking(create_app(Settings(**{"url": NOWHERE, "retries": 0, **given})))
