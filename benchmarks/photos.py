"""Photos as phones take them: what decoding and cropping cost, what fast_decode changes, and the memory of large ones.

    python benchmarks/photos.py [--quick] [--checkpoints DIR] [--photographs PATH ...] [--json]

Takes each photo from its bytes to the crops of two persons (the whole image, two bodies, two heads, 224 x 224 pixels,
BGR) in several ways, in turn, and counts the processor time of this process. All but ``fast_decode`` must give the same
bytes; of that one it says how far its crops and, with ``--checkpoints``, its probabilities are from the others', over
``--photographs`` (files or folders; else the example). Then it has images of 50 megapixels of each format, and a batch
of eight, decoded in a process of their own, and asks for its peak. Needs no server. Writes ``photos.json`` and
``photos.md`` to ``benchmarks/results/<machine>/``, and prints the tables.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import PIL

from benchmarks import machine
from benchmarks.photos_drift import Network, drift
from benchmarks.photos_memory import FORMATS, peak
from benchmarks.photos_report import medians, to_markdown
from benchmarks.photos_ways import FAST, Photo, Way, check_same, fast, photographs, photos, ways
from benchmarks.turns import take_turns
from benchmarks.workloads import SAMPLE
from export.build_engines import progress
from export.files import write_json, write_text

RESULTS = Path(__file__).parent / "results"
CALLS = 3
"""Of a way in each turn."""


def cost(way: Way, photo: Photo, calls: int = CALLS) -> float:
    """Processor time of a way, ms a photo."""
    return machine.own_cpu_ms(partial(way, photo), calls)


def in_turn(taken: Sequence[Photo], turns: int, calls: int = CALLS) -> dict[str, dict[str, list[float]]]:
    """Photo -> way -> what ``cost`` says in each turn.

    Raises:
        AssertionError: a way's crops differ from Pillow's.
    """
    for photo in taken:
        check_same(photo)
    measured: dict[tuple[str, ...], Callable[[], float]] = {
        (photo.name, name): partial(cost, way, photo, calls)
        for photo in taken
        for name, way in {**ways(), FAST: fast}.items()
    }
    found: dict[str, dict[str, list[float]]] = take_turns(measured, turns, progress)
    return found


def main() -> int:
    """Entry point; takes ``sys.argv``."""
    parser = argparse.ArgumentParser(description="Measure what decoding and cropping photos costs on this machine.")
    parser.add_argument("--quick", action="store_true", help="few turns and two formats: a look, not a report")
    parser.add_argument("--checkpoints", type=Path, help="weights, to say what fast_decode changes of probabilities")
    parser.add_argument(
        "--photographs", type=Path, nargs="+", default=[SAMPLE], metavar="PATH", help="files or folders to see it on"
    )
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON instead of the tables")
    parser.add_argument("--output-dir", type=Path, help="where the report goes (default: benchmarks/results/<machine>)")
    args = parser.parse_args()
    cpu, cores = machine.processor()
    directory: Path = args.output_dir or RESULTS / machine.Machine(cpu, cores, 0.0).slug
    turns, forms = (3, ["JPEG", "PNG"]) if args.quick else (9, list(FORMATS))
    taken = photos()
    report: dict[str, Any] = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python benchmarks/photos.py", *sys.argv[1:]]),
        "machine": {"cpu": cpu, "cores": cores},
        "pillow": PIL.__version__,
        "turns": turns,
        "calls": CALLS,
        "time_ms": in_turn(taken, turns),
        "factors": {photo.name: photo.factor for photo in taken},
    }
    report["median_share"] = medians(report)
    progress("what fast_decode changes")
    network = Network(args.checkpoints) if args.checkpoints else None
    report["weights"] = "none were given" if network is None else network.described
    report["drift"] = drift(photographs(args.photographs), network)
    progress("memory")
    report["peak_bytes"] = {form: {str(count): peak(form, count) for count in (1, 8)} for form in forms}
    print(json.dumps(report) if args.json else to_markdown(report))
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "photos.json", report)
    write_text(directory / "photos.md", to_markdown(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
