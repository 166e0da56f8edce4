"""What is measured in turns: the server, with more than one precision, and everything that it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import inprocess, machine, perf_analyzer
from benchmarks.figures import IN_FLIGHT
from benchmarks.port import TorchPort
from benchmarks.release import ReleaseInference
from benchmarks.release_detection import ReleaseDetection
from benchmarks.schedules import Schedule, Schedules
from benchmarks.workloads import BOXES_GIVEN, LARGE, Workload
from cocoer.checkpoints.loader import load_checkpoint
from cocoer.network.model import CocoER

PERF_ANALYZER = Path(__file__).resolve().parent.parent / ".cache" / "perf_analyzer"
FP32 = "FP32"


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    turns: int
    repeats: int
    """Of a call in a turn."""
    requests: int
    """Of a load in a turn."""
    many: int
    """Of a load with one person given, whose p99 is shown."""
    concurrencies: tuple[int, ...]
    """Beside 1."""
    starts: int
    memory_each: int
    """Requests of each kind."""
    memory_requests: int
    """Of the endurance run."""


class Bench:
    """What is measured in turns, all of it loaded and running.

    Args:
        checkpoints, repository: what is measured.
        detecting: a workload whose persons are detected.
        servers: precision -> address of its server; "FP32" is the one that all else is compared with.
        plan: how much.
        directory: for temporary files.
    """

    def __init__(
        self,
        checkpoints: Path,
        repository: Path,
        detecting: Workload,
        servers: Mapping[str, str],
        plan: Plan,
        directory: Path,
    ) -> None:
        self.servers, self.plan, self.detecting = servers, plan, detecting
        self.binary = perf_analyzer.fetch(PERF_ANALYZER)
        checkpoint = load_checkpoint(checkpoints)
        self.release, self.detection = ReleaseInference(checkpoint), ReleaseDetection(checkpoints)
        self.port, self.modules = TorchPort(self.release), CocoER.from_checkpoint(checkpoint)
        self.schedules = Schedules(repository)
        self.trunk = inprocess.trunk_batch(self.modules, 4, directory)
        inprocess.release_request(self.release, BOXES_GIVEN[0])  # each later call finds its weights in memory

    def ways(self) -> dict[tuple[str, ...], Callable[[], Any]]:
        """Path in the report -> measures it once; what is compared stands side by side."""
        one, two, four, eight = BOXES_GIVEN
        found: dict[tuple[str, ...], Callable[[], Any]] = {}
        for workload in (one, four, self.detecting):
            found |= self._alone(workload)
            for concurrency in self.plan.concurrencies:
                found |= self._served(workload, concurrency)
            for name, schedule in self.schedules.of(IN_FLIGHT).items():
                found["in_process", workload.name, str(IN_FLIGHT), name] = self._timed(schedule, workload, 1)
        for precision in (name for name in self.servers if name != FP32):
            for concurrency in (1, *self.plan.concurrencies):
                found["precisions", precision, str(concurrency)] = self._load(precision, one, concurrency)
        for workload in (two, eight, *LARGE):
            found |= self._served(workload, 1)
        found["trunk_ms",] = lambda: inprocess.median_ms(self.trunk, self.plan.repeats) / 4
        found["sgemm_gflops",] = machine.sgemm_gflops
        return found

    def _alone(self, workload: Workload) -> dict[tuple[str, ...], Callable[[], Any]]:
        """A request at a time: served, and by everything that it is compared with."""
        detection = self.detection if workload.persons is None else None
        calls = {
            "release_ms": partial(inprocess.release_request, self.release, workload, detection),
            "port_ms": partial(inprocess.port_request, self.port, workload, detection),
            "modules_ms": partial(inprocess.modules_request, self.modules, workload, detection),
        }
        found = self._served(workload, 1)
        for name, call in calls.items():
            repeats = 1 if name == "release_ms" else self.plan.repeats  # of seconds: once in a turn is enough
            warm_up = 0 if name == "release_ms" else 1
            found[name, workload.name] = partial(inprocess.median_ms, call, repeats, warm_up)
        for name, schedule in self.schedules.of(1).items():
            found["in_process", workload.name, "1", name] = self._timed(schedule, workload, self.plan.repeats)
        return found

    def _timed(self, schedule: Schedule, workload: Workload, repeats: int) -> Callable[[], float]:
        return partial(inprocess.median_ms, partial(schedule, workload), repeats, warm_up=1)

    def _served(self, workload: Workload, concurrency: int) -> dict[tuple[str, ...], Callable[[], Any]]:
        return {("served", workload.name, str(concurrency)): self._load(FP32, workload, concurrency)}

    def _load(self, precision: str, workload: Workload, concurrency: int) -> Callable[[], Any]:
        requests = self.plan.many if workload == BOXES_GIVEN[0] else self.plan.requests

        def load() -> dict[str, object]:
            url = self.servers[precision]
            return perf_analyzer.measure(self.binary, url, workload, concurrency, requests).to_dict()

        return load

    def gflop(self) -> dict[str, float]:
        """1e9 operations of an image with its persons, and of a trunk."""
        given = {w.name: inprocess.gflop(self.modules, w.persons or 0) for w in (BOXES_GIVEN[0], BOXES_GIVEN[2])}
        return {**given, "trunk": inprocess.trunk_gflop(self.modules)}
