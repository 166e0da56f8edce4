"""The serving tests as a conformance test of an installation: a pytest plugin (``make conformance``).

Against a server that runs already (``--triton``), against servers with other backends (``--backends``), or against
those of this machine (neither). A test says by ``@pytest.mark.needs(...)``, or by the fixtures it asks for, what it
can't do without; what isn't there is not tested, and the report says how much that is, and why.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

import tests.golden
from cocoer_client import CocoerClient, CocoerError
from export.publishing.configs import COCOER_INSTANCES, MAX_QUEUE
from serving.launcher import find_installed
from serving.server import RunningServer, TritonServer
from serving.wheel import WheelTriton
from tests.golden import LAMBDAS, Golden, logits_of, outputs_in_pytorch

NEEDS = {
    "own_server": "start, stop or damage servers of their own",
    "this_machine": "look at the server's processes, memory or log",
    "model_processes": "count on ONNX models that run in processes of their own, as without native backends",
    "checkout": "are about the checkout's commands and pages, not about a server",
    "tiny_build": "know the weights and detectors of the tests' own build",
    "golden": "compare with what the official code says with these weights, which nobody knows here",
    "scrfd": "find persons with SCRFD, and this build does without",
    "cpu_build": f"count on {COCOER_INSTANCES} instances of cocoer and a queue of {MAX_QUEUE}, as built for CPUs",
}
"""What tests can need -> what those do that do."""
NEEDS_OF_FIXTURES = {"repositories": "own_server", "opencv_server": "own_server", "tiny_checkpoints": "tiny_build"}
KNOWN_WEIGHTS = re.compile(r"synthetic seed (?P<seed>[01])(?P<tiny>, tiny)? \(")
LOW_PRECISION, BF16 = 2e-2, 6e-2
"""Tolerances of logits where a build is not FP32: FP16 drifts by 1.2e-2 at most (docs/gpu.md), bf16 by 5.1e-2
(docs/tuning.md)."""
NATIVE = "libtriton_onnxruntime.so"


@dataclass
class Conformance:
    """One run: what is tested, what is left out, and what a server has said of itself."""

    triton: RunningServer | None = None
    backends: Path | None = None
    unmet: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    told: dict[str, str] = field(default_factory=dict)
    """Lines of the report: name -> text."""
    model: dict[str, Any] = field(default_factory=dict)
    """RESULT's ``model``."""

    @property
    def golden(self) -> re.Match[str] | None:
        """Seed and size, where the official code's outputs with the server's weights are known."""
        usual = self.model.get("coordination_step") == 1 and self.model.get("channel_order") == "bgr"
        found = KNOWN_WEIGHTS.match(self.model.get("weights", "")) if usual else None
        return None if found and found["tiny"] and found["seed"] != "0" else found

    def look_at(self, server: RunningServer, image: bytes) -> None:
        """Note what a server says of itself."""
        with grpcclient.InferenceServerClient(server.url) as triton, CocoerClient(server.url, timeout=120) as client:
            metadata = triton.get_server_metadata(as_json=True)
            self.model = client.infer_raw(image, [])["model"]
            index = [name for name in MODELS_OF_BUILD if triton.is_model_ready(name)]
            configs = [triton.get_model_config(name, as_json=True)["config"] for name in index]
        backends = Counter(config.get("backend") or config.get("platform", "") for config in configs)
        self.told["server"] = f"{metadata['name']} {metadata['version']} at {server.host}:{server.http_port}"
        self.told["backends"] = ", ".join(f"{name} ({count} models)" for name, count in sorted(backends.items()))
        self.told["models"] = ", ".join(index)
        self.told["build"] = ", ".join(f"{name} {self.model[name]}" for name in ("version", "precision", "detector"))
        self.told["weights"] = self.model["weights"]
        (cocoer,) = [config for config in configs if config["name"] == "cocoer"]
        queue = cocoer["dynamic_batching"]["default_queue_policy"].get("max_queue_size")
        instances = sum(group.get("count", 1) for group in cocoer["instance_group"])
        self._cpu_build = (instances, queue) == (COCOER_INSTANCES, MAX_QUEUE)

    def missing(self) -> set[str]:
        """What a server that runs already can't give; asked of it."""
        unmet = {"own_server", "this_machine", "model_processes", "checkout"}
        unmet |= set() if self._cpu_build else {"cpu_build"}
        unmet |= set() if self.model["detector"].startswith("scrfd") else {"scrfd"}
        unmet |= set() if self.golden else {"golden"}
        return unmet | (set() if self.golden and self.golden["tiny"] else {"tiny_build"})


MODELS_OF_BUILD = (
    "cocoer", "detection", "recognition", "person_detector", "face_detector", "context_encoder", "vi_head",
    "context_gather", "head_encoder", "body_encoder", "fusion",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--triton", metavar="HOST:PORT", default="", help="HTTP address of a server that runs already")
    group.addoption(
        "--triton-ports", metavar="GRPC,METRICS", default="", help="its other ports (the next two after HTTP's)"
    )
    group.addoption("--backends", metavar="DIR", default="", help="backends for the servers that tests start")
    group.addoption("--tolerance", type=float, help="of served logits (1e-4; 2e-2 where a build is not FP32)")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Ask the server that is there, or prepare the backends."""
    run = Conformance()
    config.conformance = run  # type: ignore[attr-defined]
    if config.option.triton and config.option.backends:
        raise pytest.UsageError("a server that runs already has its own backends: give TRITON or BACKENDS, not both")
    if config.option.triton:
        run.triton = running_server(config.option.triton, config.option.triton_ports)
        sample = Path(__file__).parent.parent / "examples" / "astronaut.png"
        try:
            run.look_at(run.triton, sample.read_bytes())
        except (CocoerError, InferenceServerException, OSError) as error:
            raise pytest.UsageError(
                f"{config.option.triton} can't be asked ({error}). TRITON is the HTTP address; gRPC is expected on "
                f"port {run.triton.grpc_port}, metrics on {run.triton.metrics_port} (PORTS=GRPC,METRICS says otherwise)"
            ) from None
        run.unmet = run.missing()
    elif config.option.backends:
        run.backends = Path(tempfile.mkdtemp(prefix="cocoer-conformance-"))
        run.told["tested with"] = merge_backends(Path(config.option.backends), run.backends)
        run.unmet = {"checkout"} | ({"model_processes"} if (run.backends / "onnxruntime" / NATIVE).exists() else set())
        TritonServer.backends = run.backends
    elif (installed := find_installed()) and (installed.parent.parent / "backends" / "onnxruntime" / NATIVE).exists():
        run.unmet = {"model_processes"}
    usual = {"fp32": tests.golden.TOLERANCE, "bf16": BF16}.get(run.model.get("precision", "fp32"), LOW_PRECISION)
    tests.golden.TOLERANCE = config.option.tolerance or usual
    run.told["tolerance"] = f"{tests.golden.TOLERANCE:g} on logits"


def pytest_unconfigure(config: pytest.Config) -> None:
    run: Conformance | None = getattr(config, "conformance", None)
    if run and run.backends:
        TritonServer.backends = None
        shutil.rmtree(run.backends)


def running_server(address: str, ports: str) -> RunningServer:
    """Where a server is.

    >>> server = running_server("gpu-box:9000", "")
    >>> server.host, server.http_port, server.grpc_port, server.metrics_port
    ('gpu-box', 9000, 9001, 9002)
    """
    host, _, port = address.rpartition(":")
    given = ports.split(",") if ports else [str(int(port) + 1), str(int(port) + 2)] if port.isdecimal() else []
    if not host or not port.isdecimal() or len(given) != 2 or not all(one.isdecimal() for one in given):
        raise pytest.UsageError(
            f"TRITON is host:port, as in localhost:8000, and PORTS two numbers, as in 8001,8002; got {address!r}, "
            f"{ports!r}"
        )
    return RunningServer(host, int(port), int(given[0]), int(given[1]))


def merge_backends(given: Path, directory: Path) -> str:
    """Fill a backend directory: those given, and for the rest (``python`` at least) this machine's; what they are.

    Raises:
        pytest.UsageError: there is none in it.
    """
    names = sorted(path.name for path in given.iterdir() if path.is_dir()) if given.is_dir() else []
    if not names:
        raise pytest.UsageError(f"{given} has no backends; BACKENDS is a directory with one of its own for each")
    if installed := find_installed():
        shutil.copytree(installed.parent.parent / "backends", directory, dirs_exist_ok=True)
    else:
        WheelTriton().copy_backends(directory)
    for name in names:  # copies, as Triton wants them
        shutil.rmtree(directory / name, ignore_errors=True)
        shutil.copytree(given / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    kinds = {name: "native" if list((given / name).glob("libtriton_*.so")) else "Python" for name in names}
    return ", ".join(f"{name} ({kind}) of {given}" for name, kind in kinds.items())


def needs_of(item: pytest.Item) -> list[str]:
    """What a test needs, by its markers and fixtures."""
    marked = [need for mark in item.iter_markers("needs") for need in mark.args]
    names = getattr(item, "fixturenames", ())
    return [*marked, *(need for name, need in NEEDS_OF_FIXTURES.items() if name in names and need not in marked)]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs something that isn't there."""
    run: Conformance = config.conformance  # type: ignore[attr-defined]
    left_out = []
    for item in items:
        if unmet := [need for need in needs_of(item) if need in run.unmet]:
            run.left_out[unmet[0]] += 1
            left_out.append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """The verdict."""
    run: Conformance = config.conformance  # type: ignore[attr-defined]
    count = {kind: len(terminalreporter.stats.get(kind, ())) for kind in ("passed", "failed", "error", "skipped")}
    failed = count["failed"] + count["error"]
    terminalreporter.section("CocoER conformance")
    for name, text in run.told.items():
        terminalreporter.write_line(f"{name:12}{text}")
    for need, number in sorted(run.left_out.items()):
        terminalreporter.write_line(f"{'not tested':12}{number} tests: they {NEEDS[need]} ({need})")
    if count["skipped"]:
        terminalreporter.write_line(f"{'skipped':12}{count['skipped']} tests: see the summary above")
    verdict = "PASSED" if count["passed"] and not failed and exitstatus in (0, 5) else "FAILED"
    terminalreporter.write_line(
        f"{'verdict':12}{verdict}: {count['passed']} passed, {failed} failed, {sum(run.left_out.values())} not tested"
    )


def own_answers(server: RunningServer, image: bytes, golden: Golden) -> Golden:
    """What a server says of the golden persons, asked for each alone, in the form of a golden file."""
    found: dict[str, list[Any]] = {}
    with CocoerClient(server.url, timeout=120) as client:
        for body, head in zip(golden["body_box"], golden["head_box"]):
            (person,) = client.infer_raw(image, [{"body": body.tolist(), "head": head.tolist()}])["persons"]
            levels = list(person["losses"])
            row: dict[str, Any] = {name: logits_of(person["scores"][key]) for name, key in SCORES.items()}
            row |= {name: list(person["coordination"][name].values()) for name in LAMBDAS}
            row["losses"] = list(person["losses"].values())
            row["order"] = [levels.index(name.removesuffix("-level")) for name in person["emo_process"]]
            row["grad_distance"] = person["coordination"]["grad_distance"]
            for name, value in row.items():
                found.setdefault(name, []).append(value)
    boxes = {key: golden[key] for key in ("body_box", "head_box")}
    return {**boxes, **{name: np.array(rows) for name, rows in found.items()}}


SCORES = {"pred": "pred", "vi": "VI", "head": "head", "body": "body", "ctx": "ctx"}
"""A golden file's name -> RESULT's."""


def reference(run: Conformance, image: bytes, request: pytest.FixtureRequest) -> Golden:
    """What a server that runs already is held to: the official code where its weights are known, else itself."""
    assert run.triton is not None
    golden = request.getfixturevalue("golden")
    if run.golden is None:
        run.told["held to"] = "its own answers to one person at a time, as nobody knows here what is right"
        return own_answers(run.triton, image, golden(0))
    run.told["held to"] = "what the official code says with these weights"
    if run.golden["tiny"]:
        run.told["held to"] = "what PyTorch says with these weights"
        checkpoints = request.getfixturevalue("tiny_checkpoints")
        return outputs_in_pytorch(checkpoints, golden(0), request.getfixturevalue("sample_bgr"))
    expected: Golden = golden(int(run.golden["seed"]))
    return expected
