"""What annotated images cost: the rate at which cocoer-infer works through a folder, with them and without.

    python benchmarks/folder.py [--quick]

Writes ``folder.json`` and ``folder.md`` to ``benchmarks/results/<machine>/``, and prints the table.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import machine
from benchmarks.run import CACHE, PROJECT, RESULTS, prepare
from benchmarks.tables import markdown
from benchmarks.workloads import sample_pieces
from cocoer_client import CocoerClient
from export.build_engines import progress
from export.files import write_json, write_text
from serving.server import TritonServer

TARGET = 0.9
"""Images per second with annotated images, of those without."""
GRAIN = 3
"""Standard deviation of the photos' noise, of 255: enlarged images without it compress too well."""
PERSONS = 3
"""Per image, on average, at most: of a usual folder."""


@dataclass(frozen=True)
class Folder:
    """Photos of one size, JPEG of quality 90."""

    name: str
    width: int
    height: int
    count: int


FOLDERS = (Folder("12 megapixels", 4000, 3000, 12), Folder("1 megapixel", 1152, 864, 24))
WAYS: dict[str, tuple[str, ...]] = {"none": ("--no-images",), "JPEG, as the input": ()}
"""Annotated images -> the options that make them."""


@dataclass(frozen=True)
class Round:
    """One run of the command."""

    images_per_second: float
    cpu_ms: float
    """The client's processor time per image, its start included."""
    persons: int


def write_photos(directory: Path, folder: Folder) -> None:
    """Different photos of a folder's size, made of the sample."""
    directory.mkdir(parents=True)
    pieces, rng = sample_pieces(), np.random.default_rng(0)
    for index in range(folder.count):
        piece = Image.fromarray(np.ascontiguousarray(pieces[index % len(pieces)][..., ::-1]))
        pixels = np.asarray(piece.resize((folder.width, folder.height), Image.Resampling.BICUBIC))
        grain = rng.normal(0, GRAIN, (folder.height, folder.width, 1)).astype(np.float32)
        photo = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
        photo.save(directory / f"{index:03}.jpg", quality=90)


def usual_score(url: str, photos: Sequence[Path]) -> float:
    """The lowest score at which the synthetic detectors find at most ``PERSONS`` on average in these photos."""
    with CocoerClient(url, timeout=120) as client:

        def few(percent: int) -> bool:
            counts = [len(client.infer_raw(path.read_bytes(), min_score=percent / 100)["persons"]) for path in photos]
            return statistics.mean(counts) <= PERSONS

        return bisect.bisect_left(range(100), True, lo=50, hi=99, key=few) / 100


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Have what is started meanwhile run on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run_once(url: str, photos: Path, score: float, options: Sequence[str]) -> Round:
    """The command on a folder, as a user runs it.

    Raises:
        RuntimeError: it failed; what it said.
    """
    before = _children_seconds()
    with tempfile.TemporaryDirectory() as outputs:
        arguments = [photos, "--url", url, "--timeout", "120", "--min-score", score, "--output-dir", outputs, *options]
        command = [sys.executable, PROJECT / "client" / "infer.py", *arguments]
        run = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=PROJECT)
        told = re.search(r"(\d+) images?, (\d+) persons? in ([\d.]+) s", run.stderr)
        if run.returncode or not told:
            raise RuntimeError(f"cocoer-infer ended with {run.returncode}: {run.stderr}")
    cpu = 1000 * (_children_seconds() - before) / int(told[1])
    return Round(int(told[1]) / float(told[3]), cpu, int(told[2]))


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(url: str, photos: Path, score: float, repeats: int) -> dict[str, dict[str, Any]]:
    """Each way in turn, again and again, so that what else the machine does falls on all; the medians."""
    run_once(url, photos, score, WAYS["none"])
    rounds: dict[str, list[Round]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way, options in WAYS.items():
            rounds[way].append(run_once(url, photos, score, options))
    return {
        way: {
            "images_per_second": statistics.median(one.images_per_second for one in done),
            "cpu_ms": statistics.median(one.cpu_ms for one in done),
            "persons": done[0].persons,
            "rounds": [asdict(one) for one in done],
        }
        for way, done in rounds.items()
    }


def measure_all(repository: Path, photos: Path, folders: Sequence[Folder], repeats: int) -> dict[str, Any]:
    """Server and client on all cores together, and each on its half, as if they were two machines."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    places = {"shared": (set(cores), set(cores)), "apart": (set(cores[:half]), set(cores[half:]))}
    measured: dict[str, Any] = {}
    scores: dict[str, float] = {}
    for place, (servers, clients) in places.items():
        if not servers:
            continue
        with contextlib.ExitStack() as stack:
            with on_cores(servers):
                server = stack.enter_context(TritonServer(repository, CACHE / "folder-server.log"))
            measured[place] = {}
            for folder in folders:
                progress(f"{place}: {folder.name}")
                directory = photos / folder.name.replace(" ", "-")
                if folder.name not in scores:
                    scores[folder.name] = usual_score(server.url, sorted(directory.iterdir())[:3])
                with on_cores(clients):
                    ways = measure(server.url, directory, scores[folder.name], repeats)
                measured[place][folder.name] = {"images": folder.count, "min_score": scores[folder.name], "ways": ways}
    return measured


PLACES = {
    "shared": "server and client on the same cores",
    "apart": "server on half of the cores, client on the others",
}


def to_markdown(report: dict[str, Any]) -> str:
    """The table, and what it means."""
    described = report["machine"]
    lines = [
        f"# Annotated images: {described['cpu']}, {described['cores']} cores",
        "",
        f"{report['time']}, {report['command']}; FP32, synthetic weights and detectors; JPEG photos of quality 90; "
        f"medians of {report['repeats']} runs of each way in turn, after one that does not count. The target is {TARGET:.0%} of the rate without.",
        "",
    ]
    header = (
        "photos",
        "annotated images",
        "images/s",
        "of the rate without",
        "client's CPU, ms per image",
        "persons per image",
    )
    for place, folders in report["measured"].items():
        rows = [row for name, folder in folders.items() for row in _rows(name, folder)]
        lines += [f"{PLACES[place].capitalize()}:", "", markdown(header, rows), ""]
    return "\n".join(lines)


def _rows(name: str, folder: dict[str, Any]) -> list[tuple[str, ...]]:
    without = folder["ways"]["none"]["images_per_second"]
    return [
        (
            name,
            way,
            f"{found['images_per_second']:.2f}",
            "" if way == "none" else verdict(found["images_per_second"] / without),
            f"{found['cpu_ms']:.0f}",
            f"{found['persons'] / folder['images']:.1f}",
        )
        for way, found in folder["ways"].items()
    ]


def verdict(share: float) -> str:
    """A share of the rate without annotated images, and whether the target is met.

    >>> verdict(0.934), verdict(0.8)
    ('93%, met', '80%, missed')
    """
    return f"{share:.0%}, {'met' if share >= TARGET else 'missed'}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what annotated images cost on this machine.")
    parser.add_argument("--quick", action="store_true", help="half of the images, once: a look, not a report")
    parser.add_argument("--output-dir", type=Path, help="where the report goes (default: benchmarks/results/<machine>)")
    parser.add_argument(
        "--repository", type=Path, help="a model repository that is built (default: synthetic weights, built once)"
    )
    args = parser.parse_args()
    folders = [Folder(f.name, f.width, f.height, f.count // 2) for f in FOLDERS] if args.quick else list(FOLDERS)
    repeats = 1 if args.quick else 2
    repository = args.repository or prepare()[1]
    cpu, cores = machine.processor()
    described = machine.Machine(cpu, cores, 0.0)
    with tempfile.TemporaryDirectory() as photos:
        progress("making photos")
        for folder in folders:
            write_photos(Path(photos) / folder.name.replace(" ", "-"), folder)
        measured = measure_all(repository, Path(photos), folders, repeats)
    report = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": "python benchmarks/folder.py" + (" --quick" if args.quick else ""),
        "machine": {"cpu": cpu, "cores": cores},
        "repeats": repeats,
        "measured": measured,
    }
    directory = args.output_dir or RESULTS / described.slug
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "folder.json", report)
    write_text(directory / "folder.md", to_markdown(report))
    print(to_markdown(report))
    print(f"Written to {directory}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
