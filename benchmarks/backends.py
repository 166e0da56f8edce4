"""Backends and configurations side by side: a server of each, asked in turn, so that a busy machine is so for all.

    python -m benchmarks.backends stand-in=model_repository native=model_repository,/opt/tritonserver/backends

Each server is a NAME=REPOSITORY, with a directory of backends behind a comma where it is not the command's own. Prints
medians: milliseconds of single requests (one and four persons given; the detection of an image), images per second at
concurrency 4, CPU time per image of one person, and a crowd of 128 persons in one image: its time, the sum of the
processes' peaks (RSS), and what they hold afterwards (PSS).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tabulate import tabulate

from benchmarks.machine import process_family, process_memory_mb
from benchmarks.workloads import Workload
from cocoer_client import CocoerClient
from serving.server import TritonServer

ONE, FOUR, DETECTED = (
    Workload("1 given", 640, 480, 1),
    Workload("4 given", 640, 480, 4),
    Workload("found", 640, 480, None),
)
EIGHT = Workload("8 given", 640, 480, 8)
CROWD, CONCURRENCY, REQUESTS = 128, 4, 24
NOBODY = 0.999
"""``min_score`` that finds hardly anybody, so that detection is measured alone."""


class Measured:
    """A running server, and what was measured of it.

    Args:
        server: running.
        client: connected to it.
    """

    def __init__(self, server: TritonServer, client: CocoerClient) -> None:
        self.server, self.client = server, client
        self.values: dict[str, list[float]] = defaultdict(list)
        for workload in (ONE, FOUR, DETECTED):
            self._ask(workload)

    def round(self, repeats: int) -> None:
        """One round of everything but the crowd."""
        before = self._cpu_seconds()
        for _ in range(repeats):
            self._time("1 person ms", lambda: self._ask(ONE))
        self.values["CPU ms"].append(1000 * (self._cpu_seconds() - before) / repeats)
        for _ in range(repeats // 2):
            self._time("4 persons ms", lambda: self._ask(FOUR))
            self.values["detection ms"].append(self._ask(DETECTED)["detection"])
        started = time.perf_counter()
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            list(pool.map(lambda _: self._ask(ONE), range(REQUESTS)))
        self.values["images/s at 4"].append(REQUESTS / (time.perf_counter() - started))

    def crowd(self) -> None:
        """A crowd, and the memory that it took."""
        self._time("crowd ms", lambda: self._ask(EIGHT, CROWD))
        family = process_family(self.server.process.pid)
        self.values["peak MB"].append(sum(map(_peak_mb, family)))
        self.values["after MB"].append(process_memory_mb(self.server.process.pid))

    def _ask(self, workload: Workload, persons: int = 0) -> dict[str, float]:
        """Milliseconds of each stage."""
        rows = [workload.boxes[index % len(workload.boxes)] for index in range(persons or len(workload.boxes))]
        given = [{"body": row[:4].tolist(), "head": row[4:].tolist()} for row in rows]
        if workload.persons is None:
            answer = self.client.infer_raw(workload.jpeg, timing=True, min_score=NOBODY)
        else:
            answer = self.client.infer_raw(workload.jpeg, given, timing=True)
        return dict(answer["timing_ms"])

    def _time(self, name: str, call: Callable[[], object]) -> None:
        started = time.perf_counter()
        call()
        self.values[name].append(1000 * (time.perf_counter() - started))

    def _cpu_seconds(self) -> float:
        return sum(map(_cpu_ticks, process_family(self.server.process.pid))) / os.sysconf("SC_CLK_TCK")


def _cpu_ticks(pid: int) -> int:
    with contextlib.suppress(OSError):  # it has ended
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return int(user) + int(system)
    return 0


def _peak_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def table(servers: dict[str, Measured]) -> str:
    """Medians of everything, a row for each server."""
    names = list(next(iter(servers.values())).values)
    rows = [[name, *(statistics.median(one.values[key]) for key in names)] for name, one in servers.items()]
    return tabulate(rows, ["", *names], floatfmt=".1f")


def main() -> int:
    """Entry point; takes ``sys.argv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="+", metavar="NAME=REPOSITORY[,BACKENDS]")
    parser.add_argument("--rounds", type=int, default=5, help="in turn (default: 5)")
    parser.add_argument("--repeats", type=int, default=10, help="requests of a kind in a round (default: 10)")
    parser.add_argument("--crowds", type=int, default=2, help="crowds for each server (default: 2)")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {}
        for text in args.servers:
            name, _, paths = text.partition("=")
            repository, _, backends = paths.partition(",")
            flags = [f"--backend-directory={Path(backends).resolve()}"] if backends else []
            server = stack.enter_context(TritonServer(Path(repository).resolve(), logs / name, arguments=flags))
            servers[name] = Measured(server, stack.enter_context(CocoerClient(server.url, timeout=300)))
        for index in range(args.rounds):
            for measured in (*list(servers.values())[index:], *list(servers.values())[:index]):
                measured.round(args.repeats)
        for _ in range(args.crowds):
            for measured in servers.values():
                measured.crowd()
        print(table(servers))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
