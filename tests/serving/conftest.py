"""One real server for these tests (tiny CocoER, SCRFD), and a second one for what differs with OpenCV's detector."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest

from cocoer_client import CocoerClient, Result
from cocoer_client.connection import BaseClient
from cocoer_client.results import Failure
from serving.server import TritonServer
from tests.conftest import PROJECT

SCHEMA = json.loads((PROJECT / "docs" / "result.schema.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def every_result_fits_the_schema() -> Iterator[None]:
    """Whatever the clients are told in these tests is RESULT: its schema takes it, its models lose nothing of it."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    decode = BaseClient.decode

    def checked(response: object) -> list[dict]:
        results = decode(response)
        for result in results:
            validator.validate(result)
            definition = Failure if "error" in result else Result
            assert definition.model_validate(result).model_dump(mode="json") == result
        return results

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "decode", staticmethod(checked))
        yield


@pytest.fixture(scope="session")
def server(repositories: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    with TritonServer(repositories("scrfd"), tmp_path_factory.mktemp("scrfd") / "log") as running:
        yield running
    assert running.process is not None
    assert running.process.returncode == 0, running.log_tail()


@pytest.fixture(scope="session")
def client(server: TritonServer) -> Iterator[CocoerClient]:
    with CocoerClient(server.url, timeout=120) as connected:
        yield connected


@pytest.fixture(scope="session")
def opencv_server(
    repositories: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    with TritonServer(repositories("opencv"), tmp_path_factory.mktemp("opencv") / "log") as running:
        yield running
