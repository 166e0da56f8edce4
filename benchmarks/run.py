"""Measure the deployment on this machine, against the release's way and against what the machine can do.

    python benchmarks/run.py [--quick]

Writes ``report.json``, ``report.md`` and plots to ``benchmarks/results/<machine>/``, and prints the table.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from benchmarks import gpu, gpu_report, inprocess, machine, perf_analyzer, served
from benchmarks.device import Device, NoDevice
from benchmarks.figures import IN_FLIGHT
from benchmarks.port import TorchPort
from benchmarks.release import ReleaseInference
from benchmarks.release_detection import ReleaseDetection
from benchmarks.report import to_markdown, write_report
from benchmarks.schedules import Schedule, Schedules
from benchmarks.turns import take_turns
from benchmarks.workloads import BOXES_GIVEN, HEAVY, LARGE, Workload, sample_pieces
from cocoer.checkpoints.loader import load_checkpoint
from cocoer.network.model import CocoER
from cocoer_bls.options import DEFAULT_OPTIONS
from cocoer_client import CocoerClient
from export.build_engines import progress
from export.files import read_json, write_text
from export.publishing.configs import to_text
from export.publishing.layout import REPORT_FILE
from serving.server import TritonServer

PROJECT = Path(__file__).resolve().parent.parent
CACHE = PROJECT / ".cache" / "benchmarks"
RESULTS = PROJECT / "benchmarks" / "results"

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


QUICK = Plan(turns=2, repeats=1, requests=8, many=8, concurrencies=(4,), starts=1, memory_each=8, memory_requests=64)
FULL = Plan(
    turns=5, repeats=3, requests=16, many=100, concurrencies=(4, 8), starts=3, memory_each=12, memory_requests=2048
)


def prepare() -> tuple[Path, Path]:
    """Synthetic weights with detectors, and the repository built of them; kept in the cache."""
    checkpoints, repository = prepare_checkpoints(), CACHE / "repository"
    progress("building models")
    _python("export/build_engines.py", "--checkpoints", checkpoints, "--repository", repository, "--detectors", "scrfd")
    return checkpoints, repository


def prepare_checkpoints() -> Path:
    """Synthetic weights with detectors, made once."""
    checkpoints = CACHE / "checkpoints"
    if not (checkpoints / "insightface" / "det_10g.onnx").is_file():
        progress("writing synthetic weights")
        _python("-m", "cocoer.checkpoints.synthetic", "--out", checkpoints, "--force")
        _python("-m", "export.detectors.synthetic", "--out", checkpoints)
    return checkpoints


def _python(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)


def prepare_int8(checkpoints: Path) -> tuple[Path, dict[str, Any]]:
    """INT8 models, calibrated with pieces of the sample; the repository and its drift report."""
    folder, repository = CACHE / "calibration", CACHE / "repository-int8"
    folder.mkdir(parents=True, exist_ok=True)
    for index, piece in enumerate(sample_pieces()):
        cv2.imwrite(str(folder / f"{index}.png"), piece)
    progress("building INT8 models")
    common: list[str | Path] = ["--checkpoints", checkpoints, "--repository", repository, "--detectors", "scrfd"]
    _python("export/build_engines.py", *common, "--precision", "int8", "--calibration", folder)
    return repository, read_json(repository / REPORT_FILE)["drift"]


def set_min_score(repository: Path, min_score: float) -> None:
    """Make it the served default."""
    path = repository / "cocoer" / "config.pbtxt"
    config = text_format.Parse(path.read_text(), ModelConfig())
    config.parameters["min_score"].string_value = str(min_score)
    write_text(path, to_text(config))


def one_person(detection: ReleaseDetection) -> tuple[Workload, int]:
    """A request that detects, with the score that leaves fewest of the synthetic detectors' persons, but one."""
    counts = {}
    for percent in range(50, 100):
        workload = Workload("detected", 640, 480, None, percent / 100)
        counts[percent] = len(detection.persons(workload.image, percent / 100))
    best = min((percent for percent, count in counts.items() if count), key=lambda percent: counts[percent])
    return Workload("detected", 640, 480, None, best / 100), counts[best]


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
        self.binary = perf_analyzer.fetch(PROJECT / ".cache" / "perf_analyzer")
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


def measure(checkpoints: Path, repository: Path, detecting: Workload, plan: Plan) -> dict[str, Any]:
    """All of it, on servers of their own, of which only the one that is asked has work."""
    one, _, four, _ = BOXES_GIVEN
    int8, drift = prepare_int8(checkpoints)
    progress("starting the server")
    started = served.starts(repository, CACHE / "server.log", one, plan.starts)
    with contextlib.ExitStack() as stack:
        fp32 = stack.enter_context(TritonServer(repository, CACHE / "server.log"))
        other = stack.enter_context(TritonServer(int8, CACHE / "server-int8.log"))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(checkpoints, repository, detecting, {FP32: fp32.url, "INT8": other.url}, plan, directory)
        measured = take_turns(bench.ways(), plan.turns, progress)
        client = stack.enter_context(CocoerClient(fp32.url, timeout=120))
        progress("where the time goes")
        shown = [one, four, LARGE[-1], detecting]
        stages = {w.name: served.break_down(client, w, 3 * plan.repeats) for w in shown}
        gflop = bench.gflop()
    progress("memory")
    with TritonServer(repository, CACHE / "server.log") as server:
        assert server.process is not None
        kinds = (*BOXES_GIVEN, detecting, *LARGE, *HEAVY)
        send = served.sender(server.url)
        memory = served.most_memory(server.process.pid, send, kinds, plan.memory_each, plan.memory_requests)
    return {"server": started, **measured, "stages": stages, "gflop": gflop, "memory": memory, "drift": {"INT8": drift}}


def measure_device(args: argparse.Namespace) -> int:
    """``--gpu``."""
    try:
        device = Device(args.device)
    except NoDevice as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        report = gpu.report(device, args.checkpoints or prepare_checkpoints(), args.cache)
    except gpu.BuildFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    directory = args.output_dir or RESULTS / gpu_report.slug(report)
    gpu_report.write(report, directory)
    print(gpu_report.to_markdown(report))
    print(f"Written to {directory}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the deployment on this machine.")
    parser.add_argument("--quick", action="store_true", help="fewer repeats and concurrencies: a look, not a report")
    parser.add_argument("--output-dir", type=Path, help="where the report goes (default: benchmarks/results/<machine>)")
    parser.add_argument("--gpu", action="store_true", help="measure the models on a GPU instead; needs no server")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="of --gpu; cpu proves the script")
    parser.add_argument("--checkpoints", type=Path, help="of --gpu (default: synthetic weights, made once)")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, help="of --gpu: where its models are built (.cache/benchmarks)"
    )
    args = parser.parse_args()
    if args.gpu:
        return measure_device(args)
    plan = QUICK if args.quick else FULL
    checkpoints, repository = prepare()
    progress("describing the machine")
    described = machine.describe()
    detecting, found = one_person(ReleaseDetection(checkpoints))
    set_min_score(repository, detecting.min_score or DEFAULT_OPTIONS.min_score)
    report: dict[str, Any] = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": "python benchmarks/run.py" + (" --quick" if args.quick else ""),
        "machine": described.to_dict(),
        "turns": plan.turns,
        "persons": {w.name: w.persons for w in (*BOXES_GIVEN, *LARGE)} | {detecting.name: found},
        **measure(checkpoints, repository, detecting, plan),
    }
    directory = args.output_dir or RESULTS / described.slug
    write_report(report, directory)
    print(to_markdown(report))
    print(f"Written to {directory}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
