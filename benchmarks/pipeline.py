"""The pipeline without networks: what Triton, the BLS model, decoding, cropping and JSON cost of processor time.

    python -m benchmarks.pipeline [--quick] [--against DIR] [--queue-delay MICROSECONDS] [--json]

Serves constant models (``pipeline_models``) that find two persons in each image, sends a 640x480 JPEG one at a time
and eight at a time, in single requests and in batches of eight, and counts the processor time of all of the server's
processes, not this one's. What each part of the work takes is told by requests that leave some of it out, and by
``pipeline_parts``. ``--against`` has another checkout's ``cocoer_bls`` answer in turn with this one's, and requires the
same RESULT of both, byte for byte; ``--queue-delay`` has a third server, whose ``cocoer`` waits so long for more images
to run with. Writes ``pipeline.json`` and ``pipeline.md`` to ``benchmarks/results/<machine>/``, and prints the tables.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.pipeline_models import constant_repository
from benchmarks.pipeline_parts import of_repository
from benchmarks.pipeline_report import OWN, to_markdown
from benchmarks.pipeline_server import WAYS, Bench, Persons, Turn, check
from export.build_engines import progress
from export.files import write_json, write_text
from serving.server import TritonServer

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
LOGS = PROJECT / ".cache" / "benchmarks"


@dataclass(frozen=True)
class Served:
    """What a server serves.

    Args:
        code: ``cocoer_bls`` of another checkout; None: this one's.
        queue_delay: microseconds that ``cocoer`` waits for more images.
    """

    code: Path | None = None
    queue_delay: int = 0


@dataclass(frozen=True)
class Plan:
    """How much is measured: rounds, and images of each way in each of them; a multiple of 64."""

    rounds: int
    images: int


FULL, QUICK = Plan(rounds=7, images=192), Plan(rounds=2, images=64)


def measure(codes: Mapping[str, Served], plan: Plan) -> dict[str, Any]:
    """Each way with each server in turn, round for round, so that what else the machine does falls on all.

    Args:
        codes: name -> what it serves; one is ``OWN``.
        plan: how much.

    Returns:
        ``measured``: name -> way -> turns; ``parts``: of each round, by ``pipeline_parts``.
    """
    turns: dict[str, dict[str, list[Turn]]] = {name: {way.name: [] for way in WAYS} for name in codes}
    results: dict[Persons, set[bytes]] = {way.persons: set() for way in WAYS}
    parts: list[dict[str, float]] = []
    with _served(codes) as (benches, repository):
        for number in range(plan.rounds + 1):
            progress(f"round {number} of {plan.rounds}" if number else "a round that does not count")
            for way in WAYS:
                names = list(benches)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    turn, answers = benches[name].turn(way, plan.images if number else 64)
                    results[way.persons] |= answers
                    if number:
                        turns[name][way.name].append(turn)
            if number:
                parts.append(of_repository(repository))
    for persons, answers in results.items():
        check(answers, persons)
    # Who is given is whom the detectors find: it is the same RESULT.
    check(results["found"] | results["given"])
    told = {name: {way: [asdict(turn) for turn in done] for way, done in of.items()} for name, of in turns.items()}
    return {"measured": told, "parts": parts}


@contextlib.contextmanager
def _served(codes: Mapping[str, Served]) -> Iterator[tuple[dict[str, Bench], Path]]:
    """The servers by their names, and this checkout's repository."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        benches = {}
        for index, (name, served) in enumerate(codes.items()):
            progress(f"starting a server: {name}")
            repository = constant_repository(directory / str(index), served.code, served.queue_delay)
            server = TritonServer(repository, LOGS / f"pipeline-server-{index}.log")
            benches[name] = Bench(stack.enter_context(server))
            stack.callback(benches[name].close)
        yield benches, directory / str(list(codes).index(OWN))


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what the pipeline costs without its networks.")
    parser.add_argument("--quick", action="store_true", help="two rounds of few images: a look, not a report")
    parser.add_argument("--against", type=Path, metavar="DIR", help="cocoer_bls of another checkout, measured in turn")
    parser.add_argument("--queue-delay", type=int, metavar="MICROSECONDS", help="measure a server that waits as well")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON instead of the tables")
    parser.add_argument("--output-dir", type=Path, help="where the report goes (default: benchmarks/results/<machine>)")
    args = parser.parse_args()
    if args.against and not (args.against / "model.py").is_file():
        parser.error(f"{args.against} is no cocoer_bls: it has no model.py")
    if args.queue_delay is not None and args.queue_delay < 1:
        parser.error("--queue-delay is at least 1")
    codes = {"the other checkout": Served(args.against)} if args.against else {}
    codes[OWN] = Served()
    if args.queue_delay:
        codes[f"this checkout, with a queue delay of {args.queue_delay} µs"] = Served(queue_delay=args.queue_delay)
    cpu, cores = machine.processor()
    plan = QUICK if args.quick else FULL
    report = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.pipeline"
        + (" --quick" if args.quick else "")
        + (" --against DIR" if args.against else "")
        + (f" --queue-delay {args.queue_delay}" if args.queue_delay else ""),
        "machine": {"cpu": cpu, "cores": cores},
        "plan": asdict(plan),
        **measure(codes, plan),
    }
    print(json.dumps(report) if args.json else to_markdown(report))
    directory = args.output_dir or RESULTS / machine.Machine(cpu, cores, 0.0).slug
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "pipeline.json", report)
    write_text(directory / "pipeline.md", to_markdown(report))
    print(f"Written to {directory}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
