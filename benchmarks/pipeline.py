"""The pipeline without networks: what Triton, the BLS model, decoding, cropping and JSON cost of processor time.

    python -m benchmarks.pipeline [--quick] [--against DIR] [--json]

Serves constant models (``pipeline_models``) that find two persons in each image, sends a 640x480 JPEG one at a time
and eight at a time, in single requests and in batches of eight, and counts the processor time of all of the server's
processes, not this one's. ``--against`` has another checkout's ``cocoer_bls`` answer in turn with this one's, and
requires the same RESULT of both, byte for byte. Writes ``pipeline.json`` and ``pipeline.md`` to
``benchmarks/results/<machine>/``, and prints the tables.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
import simplejpeg
import tritonclient.grpc as grpcclient

from benchmarks import machine
from benchmarks.pipeline_models import SCENE, constant_repository
from benchmarks.pipeline_report import to_markdown
from cocoer_bls.images import crop, decode
from cocoer_bls.options import DEFAULT_LIMITS
from export.build_engines import progress
from export.files import write_json, write_text
from serving.server import TritonServer

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
LOGS = PROJECT / ".cache" / "benchmarks"

Part = Literal["cocoer", "triton", "stand-in", "launcher"]
"""Of a server: the Python processes of ``cocoer``; Triton itself; those of ``serving/backends/onnxruntime``, one for
each model, which are not there with Triton's native backend; what watches over the server."""
PARTS: tuple[Part, ...] = ("cocoer", "triton", "stand-in", "launcher")


@dataclass(frozen=True)
class Way:
    """How images are sent.

    Args:
        name: of it.
        batch: images of a request.
        concurrency: requests that are on their way together.
    """

    name: str
    batch: int
    concurrency: int


WAYS = (
    Way("1 request at a time", 1, 1),
    Way("8 requests at a time", 1, 8),
    Way("batches of 8, 1 at a time", 8, 1),
    Way("batches of 8, 8 at a time", 8, 8),
)


@dataclass(frozen=True)
class Plan:
    """How much is measured: rounds, and images of each way in each of them; a multiple of 64."""

    rounds: int
    images: int


FULL, QUICK = Plan(rounds=7, images=192), Plan(rounds=2, images=64)


@dataclass(frozen=True)
class Turn:
    """What one way took in one round, per image."""

    cpu_ms: dict[str, float]
    """Of each of ``PARTS``."""
    images_per_second: float
    load_ms: float
    """Processor time of this process, which is in nothing else."""


class NotTwo(RuntimeError):
    """The constant models were not answered as they should be: something else was measured than is said."""


def part_of(command: Sequence[str]) -> Part:
    """What a process of a server is, by its command line.

    >>> part_of(["/x/python/triton_python_backend_stub", "/repository/cocoer/1/model.py", "prefix"])
    'cocoer'
    >>> part_of(["/x/python/triton_python_backend_stub", "/x/onnxruntime/model.py", "prefix"])
    'stand-in'
    >>> part_of(["/x/bin/tritonserver", "--model-repository=/cocoer"]), part_of(["python", "-m", "serving.launcher"])
    ('triton', 'launcher')
    """
    name = Path(command[0]).name if command else ""
    if name == "triton_python_backend_stub":
        return "cocoer" if any(word.endswith("/cocoer/1/model.py") for word in command) else "stand-in"
    return "triton" if name == "tritonserver" else "launcher"


def parts_of(root: int) -> dict[int, Part]:
    """Pid -> what it is, of a server's processes."""
    found = {}
    for pid in machine.process_family(root):
        with contextlib.suppress(OSError):
            found[pid] = part_of(Path(f"/proc/{pid}/cmdline").read_text().split("\0"))
    return found


def spent(parts: Mapping[int, Part]) -> dict[str, float]:
    """Seconds of processor time that each part has taken so far."""
    total: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for pid, part in parts.items():
        total[part] += machine.cpu_ticks(pid) / os.sysconf("SC_CLK_TCK")
    return total


def per_image_ms(before: Mapping[str, float], after: Mapping[str, float], images: int) -> dict[str, float]:
    """Milliseconds per image between two counts of seconds.

    >>> per_image_ms({"cocoer": 1.0, "triton": 0.5}, {"cocoer": 1.5, "triton": 0.6}, 100)
    {'cocoer': 5.0, 'triton': 1.0}
    """
    return {part: round(1000 * (after[part] - before[part]) / images, 4) for part in after}


class Bench:
    """A server of constant models, and connections to it."""

    def __init__(self, server: TritonServer) -> None:
        self.parts = parts_of(server.process.pid)
        missing = {"cocoer", "triton"} - set(self.parts.values())
        if missing:
            raise RuntimeError(f"no process of the server was recognised as {' or '.join(sorted(missing))}")
        self.clients = [
            grpcclient.InferenceServerClient(server.url) for _ in range(max(way.concurrency for way in WAYS))
        ]

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def turn(self, way: Way, images: int) -> tuple[Turn, set[bytes]]:
        """Send so many images; what it took, and the different answers."""
        sent, each = _request(way.batch), images // way.batch // way.concurrency

        def slot(client: grpcclient.InferenceServerClient) -> set[bytes]:
            answers = (client.infer("cocoer", [sent], client_timeout=120) for _ in range(each))
            return {text for answer in answers for text in answer.as_numpy("RESULT").reshape(-1)}

        with ThreadPoolExecutor(way.concurrency) as pool:
            before, own, begun = spent(self.parts), time.process_time(), time.perf_counter()
            results = set().union(*pool.map(slot, self.clients[: way.concurrency]))
            seconds, own, after = time.perf_counter() - begun, time.process_time() - own, spent(self.parts)
        done = each * way.concurrency * way.batch
        return Turn(per_image_ms(before, after, done), done / seconds, 1000 * own / done), results


def _request(batch: int) -> grpcclient.InferInput:
    tensor = grpcclient.InferInput("IMAGE", [batch, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[SCENE.jpeg]] * batch, dtype=np.object_))
    return tensor


def check(answers: set[bytes]) -> bytes:
    """The one RESULT that all answers are, of the scene's persons.

    Raises:
        NotTwo: there are several, or they tell of other persons.
    """
    if len(answers) != 1:
        raise NotTwo(f"constant models gave {len(answers)} different results")
    (text,) = answers
    found = [[*person["body_box"], *person["head_box"]] for person in json.loads(text)["persons"]]
    if found != SCENE.boxes.tolist():
        raise NotTwo(f"constant models found {found} instead of {SCENE.boxes.tolist()}")
    return text


def libraries(result: bytes, repeats: int = 20) -> dict[str, float]:
    """What can't be left out: milliseconds per image that libraries take alone, in this process and one thread."""
    pixels = decode(SCENE.jpeg, DEFAULT_LIMITS.decode)
    sides = [map(int, row[at : at + 4]) for row in SCENE.boxes.tolist() for at in (0, 4)]
    boxes = [None, *((x1, y1, x2, y2) for x1, y1, x2, y2 in sides)]
    content = json.loads(result)
    steps: dict[str, Callable[[], object]] = {
        "libjpeg-turbo": lambda: simplejpeg.decode_jpeg(SCENE.jpeg, "BGR"),
        "Pillow, five crops": lambda: [crop(pixels, box) for box in boxes],
        "json": lambda: json.dumps(content, allow_nan=False),
    }
    taken = {}
    for name, step in steps.items():
        step()
        begun = time.process_time()
        for _ in range(repeats):
            step()
        taken[name] = round(1000 * (time.process_time() - begun) / repeats, 4)
    return taken


def measure(codes: Mapping[str, Path | None], plan: Plan) -> dict[str, Any]:
    """Each way with each code in turn, round for round, so that what else the machine does falls on all.

    Args:
        codes: name -> ``cocoer_bls``; None: this checkout's.
        plan: how much.

    Returns:
        ``measured``: name -> way -> turns; ``libraries``: of each round.
    """
    turns: dict[str, dict[str, list[Turn]]] = {name: {way.name: [] for way in WAYS} for name in codes}
    results: set[bytes] = set()
    alone: list[dict[str, float]] = []
    with _served(codes) as benches:
        for number in range(plan.rounds + 1):
            progress(f"round {number} of {plan.rounds}" if number else "a round that does not count")
            for way in WAYS:
                names = list(benches)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    turn, answers = benches[name].turn(way, plan.images if number else 64)
                    results |= answers
                    if number:
                        turns[name][way.name].append(turn)
            if number:
                alone.append(libraries(check(results)))
    check(results)
    told = {name: {way: [asdict(turn) for turn in done] for way, done in of.items()} for name, of in turns.items()}
    return {"measured": told, "libraries": alone}


@contextlib.contextmanager
def _served(codes: Mapping[str, Path | None]) -> Iterator[dict[str, Bench]]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        benches = {}
        for index, (name, code) in enumerate(codes.items()):
            progress(f"starting a server: {name}")
            repository = constant_repository(directory / str(index), code)
            server = server_of(repository, LOGS / f"pipeline-server-{index}.log")
            benches[name] = Bench(stack.enter_context(server))
            stack.callback(benches[name].close)
        yield benches


def server_of(repository: Path, log: Path) -> TritonServer:
    """A server that runs the ``cocoer_bls`` of its repository.

    Triton's Python models look into the server's directory first, where there is another one if that is a checkout.
    """
    server = TritonServer(repository, log, environment={"PYTHONPATH": str(PROJECT)})
    server.directory = repository
    return server


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what the pipeline costs without its networks.")
    parser.add_argument("--quick", action="store_true", help="two rounds of few images: a look, not a report")
    parser.add_argument("--against", type=Path, metavar="DIR", help="cocoer_bls of another checkout, measured in turn")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON instead of the tables")
    parser.add_argument("--output-dir", type=Path, help="where the report goes (default: benchmarks/results/<machine>)")
    args = parser.parse_args()
    if args.against and not (args.against / "model.py").is_file():
        parser.error(f"{args.against} is no cocoer_bls: it has no model.py")
    codes: dict[str, Path | None] = {"this checkout": None}
    if args.against:
        codes = {"the other checkout": args.against, **codes}
    cpu, cores = machine.processor()
    plan = QUICK if args.quick else FULL
    report = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.pipeline"
        + (" --quick" if args.quick else "")
        + (" --against DIR" if args.against else ""),
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
