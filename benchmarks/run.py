"""Measure the deployment on this machine, against the release's way and against what the machine can do.

    python benchmarks/run.py [--quick]

Writes ``report.json``, ``report.md`` and plots to ``benchmarks/results/<machine>/``, and prints the table.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from benchmarks import gpu, gpu_report, machine, perf_analyzer, served
from benchmarks.device import Device, NoDevice
from benchmarks.inprocess import ceiling, gflop, release_ms, trunk_ms
from benchmarks.release import ReleaseInference
from benchmarks.release_detection import ReleaseDetection
from benchmarks.report import to_markdown, write_report
from benchmarks.workloads import BOXES_GIVEN, LARGE, Workload, sample_pieces
from cocoer.checkpoints.loader import load_checkpoint
from cocoer_bls.options import DEFAULT_OPTIONS
from export.build_engines import progress
from export.files import read_json, write_text
from export.publishing.configs import to_text
from export.publishing.layout import REPORT_FILE

PROJECT = Path(__file__).resolve().parent.parent
CACHE = PROJECT / ".cache" / "benchmarks"
RESULTS = PROJECT / "benchmarks" / "results"

QUICK = served.Plan(repeats=6, requests=12, concurrencies=(1, 4), memory_requests=64)
FULL = served.Plan(repeats=15, requests=24, concurrencies=(1, 2, 4, 8), memory_requests=2048)


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


def measure_in_process(checkpoints: Path, repository: Path, detecting: Workload, repeats: int) -> dict[str, Any]:
    """The baselines: the release's way, the ceiling, the trunks alone."""
    progress("the release's way")
    release, detection = ReleaseInference(load_checkpoint(checkpoints)), ReleaseDetection(checkpoints)
    compared = [workload for workload in BOXES_GIVEN if workload.persons in (1, 4)]
    few = max(3, repeats // 3)
    release_times = {w.name: release_ms(release, w, few) for w in compared}
    release_times[detecting.name] = release_ms(release, detecting, few, detection)
    progress("the in-process ceiling")
    with tempfile.TemporaryDirectory() as temporary:
        trunk = trunk_ms(release.model, 4, Path(temporary), repeats)
    return {
        "release_ms": release_times,
        "ceiling": {w.name: ceiling(repository, w, repeats) for w in (*compared, detecting)},
        "trunk_ms": trunk,
        "gflop": {w.name: gflop(release.model, w.persons or 0) for w in compared},
    }


def measure_served(repository: Path, detecting: Workload, plan: served.Plan) -> dict[str, Any]:
    """A real server under perf_analyzer's load."""
    binary = perf_analyzer.fetch(PROJECT / ".cache" / "perf_analyzer")
    one, two, four, eight = BOXES_GIVEN
    workloads = {
        "swept": [one, four, detecting],
        "alone": [two, eight, *LARGE],
        "broken down": [one, four, LARGE[-1], detecting],
    }
    return served.measure(repository, CACHE / "server.log", binary, workloads, plan)


def measure_int8(checkpoints: Path, plan: served.Plan) -> dict[str, Any]:
    """The opt-in INT8 models: what they gain, and what they change."""
    repository, drift = prepare_int8(checkpoints)
    binary = perf_analyzer.fetch(PROJECT / ".cache" / "perf_analyzer")
    progress("served: INT8")
    return {"served": served.loads(repository, CACHE / "server.log", binary, BOXES_GIVEN[0], plan), "drift": drift}


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
        "persons": {w.name: w.persons for w in (*BOXES_GIVEN, *LARGE)} | {detecting.name: found},
        **measure_served(repository, detecting, plan),
        **measure_in_process(checkpoints, repository, detecting, plan.repeats),
        "int8": measure_int8(checkpoints, plan),
    }
    directory = args.output_dir or RESULTS / described.slug
    write_report(report, directory)
    print(to_markdown(report))
    print(f"Written to {directory}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
