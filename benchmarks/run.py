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
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from benchmarks import gpu, gpu_report, machine, served
from benchmarks.bench import FP32, Bench, Plan
from benchmarks.device import Device, NoDevice
from benchmarks.release_detection import ReleaseDetection
from benchmarks.report import to_markdown, write_report
from benchmarks.turns import take_turns
from benchmarks.workloads import BOXES_GIVEN, HEAVY, LARGE, Workload, sample_pieces
from cocoer_bls.options import DEFAULT_OPTIONS
from cocoer_client import CocoerClient
from export.build_engines import progress
from export.files import read_json, write_text
from export.publishing.configs import to_text
from export.publishing.layout import REPORT_FILE
from serving.bf16 import why_not_bf16
from serving.server import TritonServer

PROJECT = Path(__file__).resolve().parent.parent
CACHE = PROJECT / ".cache" / "benchmarks"
RESULTS = PROJECT / "benchmarks" / "results"

QUICK = Plan(turns=2, repeats=1, requests=8, many=8, concurrencies=(4,), starts=1, memory_each=8, memory_requests=64)
FULL = Plan(
    turns=3, repeats=3, requests=20, many=170, concurrencies=(4, 8), starts=3, memory_each=8, memory_requests=1024
)


def prepare() -> tuple[Path, Path]:
    """Synthetic weights with detectors, and the repository built of them; kept in the cache."""
    checkpoints, repository = prepare_checkpoints(), CACHE / "repository"
    progress("building models")
    _build(checkpoints, repository)
    return checkpoints, repository


def prepare_checkpoints() -> Path:
    """Synthetic weights with detectors, made once."""
    checkpoints = CACHE / "checkpoints"
    if not (checkpoints / "insightface" / "det_10g.onnx").is_file():
        progress("writing synthetic weights")
        _python("-m", "cocoer.checkpoints.synthetic", "--out", checkpoints, "--force")
        _python("-m", "export.detectors.synthetic", "--out", checkpoints)
    return checkpoints


def _build(checkpoints: Path, repository: Path, *options: str | Path) -> None:
    where: list[str | Path] = ["--checkpoints", checkpoints, "--repository", repository]
    _python("export/build_engines.py", *where, "--detectors", "scrfd", *options)


def _python(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)


def prepare_int8(checkpoints: Path) -> tuple[Path, dict[str, Any]]:
    """INT8 models, calibrated with pieces of the sample; the repository and its drift report."""
    folder, repository = CACHE / "calibration", CACHE / "repository-int8"
    folder.mkdir(parents=True, exist_ok=True)
    for index, piece in enumerate(sample_pieces()):
        cv2.imwrite(str(folder / f"{index}.png"), piece)
    progress("building INT8 models")
    _build(checkpoints, repository, "--precision", "int8", "--calibration", folder)
    return repository, read_json(repository / REPORT_FILE)["drift"]


def prepare_bf16(checkpoints: Path, fp32: Path) -> Path:
    """The repository in bf16; what it has in common with that in FP32 comes from there."""
    repository = CACHE / "repository-bf16"
    progress("building bf16 models")
    _build(checkpoints, repository, "--precision", "bf16", "--reuse", fp32)
    return repository


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


def measure(checkpoints: Path, repository: Path, detecting: Workload, plan: Plan) -> dict[str, Any]:
    """All of it, on servers of their own, of which only the one that is asked has work."""
    one, _, four, _ = BOXES_GIVEN
    int8, drift = prepare_int8(checkpoints)
    precisions, left_out = {"INT8": int8}, {}
    if problem := why_not_bf16():
        left_out["bf16"] = problem
    else:
        precisions["bf16"] = prepare_bf16(checkpoints, repository)
    progress("starting the server")
    started = served.starts(repository, CACHE / "server.log", one, plan.starts)
    progress("memory")
    with TritonServer(repository, CACHE / "server.log") as server:
        assert server.process is not None
        kinds = (*BOXES_GIVEN, detecting, *LARGE, *HEAVY)
        send = served.sender(server.url)
        memory = served.most_memory(server.process.pid, send, kinds, plan.memory_each, plan.memory_requests)
    with contextlib.ExitStack() as stack:
        fp32 = stack.enter_context(TritonServer(repository, CACHE / "server.log"))
        servers = {FP32: fp32.url}
        for name, other in precisions.items():
            servers[name] = stack.enter_context(TritonServer(other, CACHE / f"server-{name.lower()}.log")).url
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(checkpoints, repository, detecting, servers, plan, directory)
        measured = take_turns(bench.ways(), plan.turns, progress)
        client = stack.enter_context(CocoerClient(fp32.url, timeout=120))
        progress("where the time goes")
        shown = [one, four, LARGE[-1], detecting]
        stages = {w.name: served.break_down(client, w, 3 * plan.repeats) for w in shown}
        gflop = bench.gflop()
    found = {"stages": stages, "gflop": gflop, "memory": memory, "drift": {"INT8": drift}, "left_out": left_out}
    return {"server": started, **measured, **found}


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
