"""One real server for these tests (tiny CocoER, SCRFD), and a second one for what differs with OpenCV's detector."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest

from cocoer_client import CocoerClient, aio
from cocoer_client import client as synchronous
from cocoer_client.connection import results_of
from serving.server import TritonServer
from tests.conftest import CACHE, PROJECT

SCHEMA = json.loads((PROJECT / "docs" / "result.schema.json").read_text())


@pytest.fixture(scope="session", autouse=True)
def every_result_fits_the_schema() -> Iterator[None]:
    """Whatever the clients are told in these tests is held against docs/result.schema.json."""
    validator = jsonschema.Draft202012Validator(SCHEMA)

    def checked(response: object) -> list[dict]:
        results = results_of(response)
        for result in results:
            validator.validate(result)
        return results

    with pytest.MonkeyPatch.context() as patch:
        for module in (synchronous, aio):
            patch.setattr(module, "results_of", checked)
        yield


@pytest.fixture(scope="session")
def server(repositories: Callable[[str], Path]) -> Iterator[TritonServer]:
    with TritonServer(repositories("scrfd"), CACHE / "server-scrfd.log") as running:
        yield running
    assert running.process is not None
    assert running.process.returncode == 0, running.log_tail()


@pytest.fixture(scope="session")
def client(server: TritonServer) -> Iterator[CocoerClient]:
    with CocoerClient(server.url, timeout=120) as connected:
        yield connected


@pytest.fixture(scope="session")
def opencv_server(repositories: Callable[[str], Path]) -> Iterator[TritonServer]:
    with TritonServer(repositories("opencv"), CACHE / "server-opencv.log") as running:
        yield running
