"""One real server for these tests (seed 0, SCRFD), and a second one for what differs with OpenCV's detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client import CocoerClient
from serving.server import TritonServer
from tests.conftest import CACHE


@pytest.fixture(scope="session")
def server(repositories: Callable[[int], Path]) -> Iterator[TritonServer]:
    with TritonServer(repositories(0), CACHE / "server-seed0.log") as running:
        yield running
    assert running.process is not None
    assert running.process.returncode == 0, running.log_tail()


@pytest.fixture(scope="session")
def client(server: TritonServer) -> Iterator[CocoerClient]:
    with CocoerClient(server.url, timeout=120) as connected:
        yield connected


@pytest.fixture(scope="session")
def opencv_server(repositories: Callable[[int], Path]) -> Iterator[TritonServer]:
    with TritonServer(repositories(1), CACHE / "server-seed1.log") as running:
        yield running
