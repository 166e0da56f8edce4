"""Shared fixtures. Large things (synthetic weights, engines) are made once into ``.cache/tests``, which git ignores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.builds import PROJECT, Builds

CACHE = PROJECT / ".cache" / "tests"
DATA = Path(__file__).parent / "data"
SAMPLE = PROJECT / "examples" / "astronaut.png"
SEEDS = (0, 1)
STEPS = {1.0: DATA, 0.1: DATA / "step01", 0.0: DATA / "step0"}
"""Coordination step -> the official code's outputs with it. 0.1 differs from 1 by 5e-3 in the final logits."""

Golden = dict[str, np.ndarray]


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the long tests are; ``make fuzz`` and ``make soak`` say more."""
    parser.addoption("--fuzz-inputs", type=int, default=10_000, help="mutated files to send to the server")
    parser.addoption("--fuzz-seed", type=int, default=0, help="which ones")
    parser.addoption("--soak-seconds", type=float, default=10, help="how long to send mixed traffic")
    parser.addoption("--full", action="store_true", help="run what is marked full as well")


def pytest_configure() -> None:
    """A shell that starts something in the background has it ignore Ctrl-C, and so all that the tests start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test by its directory, run last what waits longest for builds, and leave out the full set unasked."""
    kinds = ("unit", "serving", "parity")
    for item in items:
        kind = item.path.parent.name
        assert kind in kinds, f"{item.path}: tests lie in tests/unit, tests/parity or tests/serving"
        item.add_marker(getattr(pytest.mark, kind))
    items.sort(key=lambda item: kinds.index(item.path.parent.name))
    if not config.getoption("--full"):
        left_out = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


def run_python(*arguments: str | Path, timeout: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter in the project's directory, as a user would; its output is kept."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="session", autouse=True)
def builds(request: pytest.FixtureRequest) -> Iterator[Builds]:
    """Makes what the tests will ask for, from the first test on, in the background."""
    with Builds(CACHE, os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex) as running:
        running.begin({name for item in request.session.items for name in getattr(item, "fixturenames", ())})
        yield running


@pytest.fixture(scope="session")
def tiny_checkpoints(builds: Builds) -> Path:
    """A synthetic ``checkpoints/`` tree of the tiny CocoER, with detectors."""
    return builds.tiny_checkpoints()


@pytest.fixture(scope="session")
def repositories(builds: Builds) -> Callable[[str], Path]:
    """How persons are found ("scrfd" or "opencv") -> a built repository of the tiny CocoER."""
    return builds.tiny


@pytest.fixture(scope="session")
def checkpoints(builds: Builds) -> Callable[[int], Path]:
    """Seed -> a synthetic ``checkpoints/`` tree of the release's architecture, with detectors."""
    return builds.checkpoints


@pytest.fixture(scope="session")
def full_repositories(builds: Builds) -> Callable[..., Path]:
    """Seed, and coordination step if it is not 1 -> a built repository of the release's architecture, with SCRFD."""
    return builds.full


@pytest.fixture(scope="session")
def fp16_repository(builds: Builds) -> Path:
    """The one of seed 0 in FP16."""
    return builds.fp16()


@pytest.fixture(scope="session")
def bf16_repository(builds: Builds) -> Path:
    """The one of seed 0 in bf16; for machines that can (``serving.bf16``)."""
    return builds.bf16()


@pytest.fixture(scope="session")
def tiny_bf16_repository(builds: Builds) -> Path:
    """The tiny CocoER in bf16; for machines that can."""
    return builds.tiny_bf16()


@pytest.fixture(scope="session")
def golden() -> Callable[..., Golden]:
    """Seed, and coordination step if it is not 1 -> the official code's outputs on the sample."""
    return lambda seed, step=1.0: dict(np.load(STEPS[step] / f"astronaut_seed{seed}.npz"))


@pytest.fixture(scope="session")
def sample_bgr() -> np.ndarray:
    """The sample image, UINT8 [512, 512, 3], BGR."""
    from cocoer_bls.images import DecodeLimits, decode

    return decode(SAMPLE.read_bytes(), DecodeLimits(1 << 20, 1 << 20))


@pytest.fixture(scope="session")
def sample_bytes() -> bytes:
    return SAMPLE.read_bytes()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that differ from test to test and not from run to run."""
    return np.random.default_rng(list(request.node.name.encode()))
