"""What the gateway costs, against gRPC directly to the same server.

    python benchmarks/gateway.py [--quick] [--only latency throughput ...] [--json]

Writes ``gateway.json`` and ``gateway.md`` to ``benchmarks/results/<machine>/``, and prints the tables. With ``--only``,
it writes them to ``--output-dir`` alone, for they are no whole report.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import machine
from benchmarks.folder import GRAIN, usual_score
from benchmarks.gateway_load import BODY, FORM, GRPC, Http, Question, connect, latencies, load, loads, post, ways
from benchmarks.gateway_report import spread, spreads, to_markdown
from benchmarks.run import CACHE, PROJECT, RESULTS, prepare
from benchmarks.workloads import BOXES_GIVEN, SAMPLE, sample_pieces
from cocoer_client import CocoerClient
from cocoer_client.aio import AsyncCocoerClient
from export.build_engines import progress
from export.files import write_json, write_text
from serving.server import TritonServer, free_ports

CONCURRENCY = 8
PROCESSES = (1, 2)
PATIENCE = 60
"""Seconds for a gateway to start or to end."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        turns: single requests of each way.
        rounds, requests: of each way, ``CONCURRENCY`` requests at a time.
        endurance: requests over which memory is looked at.
        alone: requests to a gateway before a server that answers at once.
    """

    turns: int = 24
    rounds: int = 6
    requests: int = 32
    endurance: int = 10_000
    alone: int = 3000


FULL, QUICK = Plan(), Plan(turns=6, rounds=1, requests=16, endurance=1000, alone=400)


@contextlib.contextmanager
def process(command: Sequence[str | int], port: int, log: Path) -> Iterator[int]:
    """A server of HTTP or gRPC, for the length of the block; its pid.

    Raises:
        RuntimeError: it does not listen in time; the end of what it has said.
    """
    with log.open("wb") as output:
        running = subprocess.Popen(list(map(str, command)), stdout=output, stderr=subprocess.STDOUT, cwd=PROJECT)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _listens(port):
            if running.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[2]} does not listen: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield running.pid
    finally:
        running.terminate()
        try:
            running.wait(PATIENCE)
        finally:
            running.kill()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE):
        return True
    return False


@contextlib.contextmanager
def gateway(triton: str, *arguments: str | int) -> Iterator[tuple[int, int]]:
    """A ``cocoer-web`` before a server, for the length of the block: its pid, and its port."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "cocoer_client.web.command", "--url", triton, "--port", port, *arguments]
    with process(command, port, CACHE / "gateway.log") as pid:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE) as answer:
            answer.read()
        yield pid, port


def photo() -> bytes:
    """A JPEG of 12 megapixels and about 5 MB, as cameras write it."""
    pixels = Image.fromarray(np.ascontiguousarray(sample_pieces()[0][..., ::-1])).resize((4000, 3000))
    grain = np.random.default_rng(0).normal(0, GRAIN, (3000, 4000, 1)).astype(np.float32)
    stream = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(pixels) + grain, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=97)
    return stream.getvalue()


def small() -> bytes:
    """A JPEG of 64 x 48 pixels."""
    stream = io.BytesIO()
    Image.fromarray(sample_pieces()[0]).resize((64, 48)).save(stream, "JPEG")
    return stream.getvalue()


def questions(url: str) -> dict[str, Question]:
    """Those that are asked; looks for the score at which the synthetic detectors find a few persons."""
    persons = json.loads((PROJECT / "examples" / "persons.json").read_text())
    workload, large = BOXES_GIVEN[0], photo()
    crowd = [{"body": row[:4], "head": row[4:]} for row in BOXES_GIVEN[-1].boxes.tolist()]
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "image.jpg"
        path.write_bytes(workload.jpeg)
        score = usual_score(url, [path])
    shares = np.array(persons[0]["body"] + persons[0]["head"]).reshape(4, 2) / 512 * (4000, 3000)
    scaled = [{"body": shares[:2].ravel().round().tolist(), "head": shares[2:].ravel().round().tolist()}]
    asked = (
        Question("1 person, boxes given, 512x512 PNG", SAMPLE.read_bytes(), persons),
        Question("detection, 640x480", workload.jpeg, None, score),
        Question(f"1 person, boxes given, 12 megapixels ({len(large) / 1e6:.1f} MB)", large, scaled),
        Question("8 persons, boxes given, 640x480", workload.jpeg, crowd),
        Question("nobody, 64x48", small(), []),
    )
    return dict(zip(("given", "detected", "large", "crowd", "nobody"), asked))


@dataclass(frozen=True)
class Bench:
    """A server, a gateway before it, and what is asked."""

    triton: str
    pid: int
    port: int
    questions: dict[str, Question]
    plan: Plan

    @contextlib.asynccontextmanager
    async def connected(self) -> Any:
        """A client over gRPC, and connections to the gateway."""
        http = Http(self.port)
        async with AsyncCocoerClient(self.triton, timeout=120) as client:
            yield client, http
        http.close()


async def latency(bench: Bench) -> dict[str, Any]:
    """One request at a time."""
    measured = {}
    async with bench.connected() as (client, http):
        for name in ("given", "detected", "large", "nobody"):
            question = bench.questions[name]
            measured[question.name] = spreads(await latencies(ways(question, client, http), bench.plan.turns))
    return measured


async def throughput(bench: Bench) -> dict[str, Any]:
    """Eight requests at a time, over gRPC and as forms."""
    plan, measured = bench.plan, {}
    amounts = {
        "given": (plan.rounds, plan.requests),
        "large": (max(1, plan.rounds // 2), plan.requests // 2),
        "nobody": (plan.rounds, plan.requests * 16),
    }
    async with bench.connected() as (client, http):
        for name, (rounds, requests) in amounts.items():
            asks = ways(bench.questions[name], client, http)
            done = await loads({way: asks[way] for way in (GRPC, FORM)}, rounds, requests, CONCURRENCY, bench.pid)
            measured[bench.questions[name].name] = {way: list(map(asdict, few)) for way, few in done.items()}
    return measured


def mixed(bench: Bench) -> Callable[[int], tuple[bytes, int]]:
    """A request and its expected status, by its number: what a gateway sees in its days, little of it computed."""
    nobody, large = bench.questions["nobody"], bench.questions["large"]
    body, form = (nobody.post(), 200), (nobody.post(form=True), 200)
    annotate, explain = ((nobody.post(f"/v1/{path}", form=True), 200) for path in ("annotate", "explain"))
    no_image = (post("/v1/recognise", b"no image", {}), 415)
    no_option = (post("/v1/recognise", nobody.image, {"nonsense": "1"}, form=True), 400)
    big = (Question("", large.image, []).post(form=True), 200)
    usual = [body, annotate, no_image, form, body, no_option, form, body, form, body]

    def request(number: int) -> tuple[bytes, int]:
        if number % 100 == 0:
            return big
        return explain if number % 100 == 50 else usual[number % 10]

    return request


async def memory(bench: Bench) -> dict[str, Any]:
    """The gateway's, over many requests of a mixture; looked at while none is on its way."""
    request, step = mixed(bench), bench.plan.endurance // 20
    samples = [_memory(bench.pid)]
    http = Http(bench.port)

    async def slot(which: int, numbers: Iterator[int]) -> None:
        for number in numbers:
            content, expected = request(number)
            await http.ask(which, content, expected)

    begun = time.perf_counter()
    for first in range(0, bench.plan.endurance, step):
        numbers = iter(range(first, first + step))
        await asyncio.gather(*(slot(which, numbers) for which in range(CONCURRENCY)))
        samples.append(_memory(bench.pid))
    http.close()
    return {"requests": bench.plan.endurance, "seconds": time.perf_counter() - begun, "step": step, "samples": samples}


def _memory(pid: int) -> dict[str, float]:
    return {"rss_mb": machine.process_rss_mb(pid), "pss_mb": machine.process_memory_mb(pid)}


async def idle(bench: Bench, count: int = 1000) -> dict[str, Any]:
    """What connections cost that ask nothing."""
    ask = _asks(bench, Http(bench.port), {"nobody": bench.questions["nobody"].post()})
    turns = bench.plan.turns * 8
    before, memory_before = await latencies(ask, turns), _memory(bench.pid)
    connections = [await connect(bench.port) for _ in range(count)]
    during, memory_during = await latencies(ask, turns), _memory(bench.pid)
    left = sum(not connection.lost.is_set() for connection in connections)
    for connection in connections:
        connection.close()
    return {
        "connections": count,
        "left": left,
        "ms": {"without": spread(before["nobody"]), "with": spread(during["nobody"])},
        "memory": {"without": memory_before, "with": memory_during},
    }


def _asks(bench: Bench, http: Http, requests: dict[str, bytes]) -> dict[str, Any]:
    def asking(content: bytes) -> Any:
        return lambda slot: http.ask(slot, content)

    return {name: asking(content) for name, content in requests.items()}


async def drawing(bench: Bench) -> dict[str, Any]:
    """Annotated images and pages, against RESULT alone."""
    measured: dict[str, Any] = {}
    for name in ("given", "large"):
        question, http = bench.questions[name], Http(bench.port)
        requests = {
            "recognise": question.post(),
            "annotate, JPEG": question.post("/v1/annotate", accept="image/jpeg"),
            "annotate, WebP": question.post("/v1/annotate", accept="image/webp"),
            "explain": question.post("/v1/explain"),
        }
        asks = _asks(bench, http, requests)
        few = max(2, bench.plan.turns // 6)
        taken = await latencies(asks, few)
        measured[question.name] = {
            path: {
                "ms": spread(taken[path]),
                "cpu_ms": (await load(ask, few, 1, bench.pid)).cpu_ms,
                "bytes": len(await ask(0)),
            }
            for path, ask in asks.items()
        }
        http.close()
    return measured


async def alone(bench: Bench) -> dict[str, Any]:
    """Gateways of one and of two processes, before a server that answers at once."""
    measured: dict[str, Any] = {}
    for name, share in (("given", 1), ("crowd", 1), ("large", 15)):
        question = bench.questions[name]
        async with bench.connected() as (client, _):
            result = json.dumps(await client.infer_raw(question.image, question.persons), separators=(",", ":"))
        small_enough = Question(question.name, bench.questions["given"].image if share == 1 else question.image, [])
        for processes in PROCESSES:
            more = () if processes == 1 else ("--processes", processes)
            with fake(result) as triton, gateway(triton, *more) as (pid, port):
                here = Bench(triton, pid, port, {}, bench.plan)
                key = f"RESULT of {question.name}; {processes} process{'es' * (processes > 1)}"
                measured[key] = await _alone(here, small_enough, bench.plan.alone // share)
    return measured


async def _alone(bench: Bench, question: Question, requests: int) -> dict[str, Any]:
    async with bench.connected() as (client, http):
        asks = ways(question, client, http)
        taken = spreads(await latencies(asks, max(10, requests // 20)))
        done = await loads(asks, 1, requests, 2 * CONCURRENCY, bench.pid)
    return {way: {"ms": taken[way], **asdict(done[way][0])} for way in (GRPC, BODY, FORM)}


@contextlib.contextmanager
def fake(result: str) -> Iterator[str]:
    """Its address."""
    (port,) = free_ports(1)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(result)
        file.flush()
        command: list[str | int] = [sys.executable, "-m", "benchmarks.gateway_fake", file.name, "--port", port]
        with process(command, port, CACHE / "gateway-fake.log"):
            yield f"127.0.0.1:{port}"


PARTS: dict[str, Callable[[Bench], Coroutine[Any, Any, dict[str, Any]]]] = {
    "latency": latency,
    "throughput": throughput,
    "drawing": drawing,
    "idle": idle,
    "memory": memory,
    "alone": alone,
}


def measure(repository: Path, plan: Plan, parts: Sequence[str]) -> dict[str, Any]:
    """Each of these parts, with one server and, but for the last, one gateway."""
    measured = {}
    with TritonServer(repository, CACHE / "gateway-server.log") as server:
        progress("making images")
        with CocoerClient(server.url, timeout=120) as client:
            client.check_ready()
        asked = questions(server.url)
        with gateway(server.url) as (pid, port):
            bench = Bench(server.url, pid, port, asked, plan)
            for part in parts:
                progress(part)
                measured[part] = asyncio.run(PARTS[part](bench))
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what the gateway costs on this machine.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests: a look, not a report")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON instead of the tables")
    parser.add_argument("--output-dir", type=Path, help="where the report goes (default: benchmarks/results/<machine>)")
    parser.add_argument(
        "--repository", type=Path, help="a model repository that is built (default: synthetic weights, built once)"
    )
    args = parser.parse_args()
    cpu, cores = machine.processor()
    whole = None if args.only else RESULTS / machine.Machine(cpu, cores, 0.0).slug
    directory: Path | None = args.output_dir or whole
    report = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python benchmarks/gateway.py", *sys.argv[1:]]),
        "machine": {"cpu": cpu, "cores": cores},
        "measured": measure(args.repository or prepare()[1], QUICK if args.quick else FULL, args.only or list(PARTS)),
    }
    print(json.dumps(report) if args.json else to_markdown(report))
    if directory:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "gateway.json", report)
        write_text(directory / "gateway.md", to_markdown(report))
        progress(f"written to {directory}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
