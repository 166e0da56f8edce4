"""Measure the deployment on this machine, against the release's way and against what the machine can do.

    python benchmarks/run.py [--quick]

Writes ``report.json`` and ``report.md`` to ``benchmarks/results/<machine>/``, and prints the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import machine, perf_analyzer  # noqa: E402
from benchmarks.inprocess import ceiling, gflop, release_ms, trunk_ms  # noqa: E402
from benchmarks.release import ReleaseInference  # noqa: E402
from benchmarks.report import to_markdown  # noqa: E402
from benchmarks.workloads import BOXES_GIVEN, LARGE, Workload  # noqa: E402
from client import CocoerClient  # noqa: E402
from cocoer.files import replace_file  # noqa: E402
from cocoer.weights import load_checkpoint  # noqa: E402
from export.build_engines import progress  # noqa: E402
from serving.server import TritonServer  # noqa: E402

PROJECT = Path(__file__).resolve().parent.parent
CACHE = PROJECT / ".cache" / "benchmarks"
RESULTS = PROJECT / "benchmarks" / "results"


def prepare() -> tuple[Path, Path]:
    """Synthetic weights with detectors, and their engines; kept in the cache."""
    checkpoints, repository = CACHE / "checkpoints", CACHE / "repository"
    if not (checkpoints / "insightface" / "det_10g.onnx").is_file():
        progress("writing synthetic weights")
        _python("-m", "cocoer.synthetic", "--out", checkpoints, "--detectors", "--force")
    progress("building engines")
    _python("export/build_engines.py", "--checkpoints", checkpoints, "--repository", repository, "--detectors", "scrfd")
    return checkpoints, repository


def _python(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)


def measure_in_process(checkpoints: Path, repository: Path, repeats: int) -> dict[str, Any]:
    """The baselines: the release's way, the ceiling, the trunks alone."""
    progress("the release's way")
    release = ReleaseInference(load_checkpoint(checkpoints))
    compared = [workload for workload in BOXES_GIVEN if workload.persons in (1, 4)]
    release_times = {w.name: release_ms(release, w, max(3, repeats // 3)) for w in compared}
    progress("the in-process ceiling")
    with tempfile.TemporaryDirectory() as temporary:
        trunk = trunk_ms(release.model, 4, Path(temporary), repeats)
    return {
        "release_ms": release_times,
        "ceiling": {w.name: ceiling(repository, w, repeats) for w in compared},
        "trunk_ms": trunk,
        "gflop": {w.name: gflop(release.model, w.persons or 0) for w in compared},
    }


def measure_served(repository: Path, binary: Path, concurrencies: list[int], requests: int) -> dict[str, Any]:
    """A real server under perf_analyzer's load."""
    started = time.perf_counter()
    with TritonServer(repository, CACHE / "server.log") as server, CocoerClient(server.url) as client:
        ready = time.perf_counter() - started
        assert server.process is not None
        first, median = _first_and_median(client, BOXES_GIVEN[0])
        detecting, found = _one_person(client)
        workloads = [*BOXES_GIVEN, *LARGE, detecting]
        served: dict[str, list[dict[str, float]]] = {}
        for workload in workloads:
            swept = concurrencies if workload in BOXES_GIVEN[:1] or workload is detecting else [1]
            for concurrency in swept:
                progress(f"served: {workload.name}, concurrency {concurrency}")
                load = perf_analyzer.measure(binary, server.url, workload, concurrency, requests)
                served.setdefault(workload.name, []).append(dataclasses.asdict(load))
        memory = machine.process_memory_mb(server.process.pid)
    persons = {workload.name: workload.persons if workload.persons is not None else found for workload in workloads}
    times = {"ready_s": ready, "first_ms": first, "median_ms": median, "memory_mb": memory}
    return {"server": times, "served": served, "persons": persons}


def _first_and_median(client: CocoerClient, workload: Workload) -> tuple[float, float]:
    persons = [{"body": row[:4].tolist(), "head": row[4:].tolist()} for row in workload.boxes]
    times = []
    for _ in range(21):
        started = time.perf_counter()
        client.infer(workload.jpeg, persons)
        times.append(1000 * (time.perf_counter() - started))
    return times[0], sorted(times[1:])[10]


def _one_person(client: CocoerClient) -> tuple[Workload, int]:
    """A request that detects, with the score that leaves fewest of the synthetic detectors' persons, but one."""
    counts = {}
    for percent in range(50, 100):
        workload = Workload("detected", 640, 480, None, percent / 100)
        counts[percent] = len(client.infer(workload.jpeg, min_score=workload.min_score)["persons"])
    best = min((percent for percent, count in counts.items() if count), key=lambda percent: counts[percent])
    return Workload("detected", 640, 480, None, best / 100), counts[best]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the deployment on this machine.")
    parser.add_argument("--quick", action="store_true", help="fewer repeats and concurrencies: a look, not a report")
    parser.add_argument("--output-dir", type=Path, help="where the report goes (default: benchmarks/results/<machine>)")
    args = parser.parse_args()
    repeats, requests, concurrencies = (6, 12, [1, 4]) if args.quick else (15, 24, [1, 2, 4, 8])
    checkpoints, repository = prepare()
    binary = perf_analyzer.fetch(PROJECT / ".cache" / "perf_analyzer")
    progress("describing the machine")
    described = machine.describe()
    report: dict[str, Any] = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": "python benchmarks/run.py" + (" --quick" if args.quick else ""),
        "machine": described.to_dict(),
        **measure_in_process(checkpoints, repository, repeats),
        **measure_served(repository, binary, concurrencies, requests),
    }
    directory = args.output_dir or RESULTS / described.slug
    markdown = to_markdown(report)
    replace_file(directory / "report.json", lambda path: path.write_text(json.dumps(report, indent=2) + "\n"))
    replace_file(directory / "report.md", lambda path: path.write_text(markdown))
    print(markdown)
    print(f"Written to {directory}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
