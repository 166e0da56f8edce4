"""One real server for these tests (tiny CocoER, SCRFD), and a second one for what differs with OpenCV's detector."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from cocoer_client import CocoerClient, Result
from cocoer_client.connection import BaseClient
from cocoer_client.results import Failure
from serving.server import RunningServer, TritonServer
from tests.conformance import Conformance, reference
from tests.conftest import PROJECT, Golden
from tests.gateway import Gateway, gateway
from tests.golden import outputs_in_pytorch

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
def conformance(request: pytest.FixtureRequest) -> Conformance | None:
    """What ``make conformance`` tests; None in every other run."""
    return getattr(request.config, "conformance", None)


@pytest.fixture(scope="session")
def server(
    request: pytest.FixtureRequest,
    conformance: Conformance | None,
    tmp_path_factory: pytest.TempPathFactory,
    sample_bytes: bytes,
) -> Iterator[RunningServer]:
    if conformance and conformance.triton:
        yield conformance.triton
        return
    repositories = request.getfixturevalue("repositories")
    with TritonServer(repositories("scrfd"), tmp_path_factory.mktemp("scrfd") / "log") as running:
        if conformance:
            conformance.look_at(running, sample_bytes)
        yield running
    assert running.process is not None
    assert running.process.returncode == 0, running.log_tail()


@pytest.fixture(scope="session")
def expected(
    request: pytest.FixtureRequest,
    conformance: Conformance | None,
    golden: Callable[[int], Golden],
    sample_bgr: np.ndarray,
    sample_bytes: bytes,
) -> Golden:
    """What the served CocoER has to say of the golden persons, in the form of a golden file."""
    if conformance and conformance.triton:
        return reference(conformance, sample_bytes, request)
    return outputs_in_pytorch(request.getfixturevalue("tiny_checkpoints"), golden(0), sample_bgr)


@pytest.fixture(scope="session")
def model_processes(conformance: Conformance | None) -> bool:
    """Whether ONNX models run in processes of their own, as with the Python backend that stands in for a native one."""
    return conformance is None or "model_processes" not in conformance.unmet


@pytest.fixture(scope="session")
def client(server: RunningServer) -> Iterator[CocoerClient]:
    with CocoerClient(server.url, timeout=120) as connected:
        yield connected


@pytest.fixture(scope="session")
def opencv_server(
    repositories: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    with TritonServer(repositories("opencv"), tmp_path_factory.mktemp("opencv") / "log") as running:
        yield running


@pytest.fixture(scope="session")
def web(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """``cocoer-web`` in front of the server."""
    with gateway(server.url, tmp_path_factory.mktemp("web") / "log") as running:
        yield running
