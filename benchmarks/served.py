"""What is measured on a running server: where the time goes, memory, the first request."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tritonclient.grpc as grpcclient

from benchmarks.machine import MostMemory, process_memory_mb
from benchmarks.workloads import Workload
from cocoer_client import CocoerClient
from serving.server import TritonServer

MEMORY_CONCURRENCY = 4
CROWD = 32
"""Persons from which on half as many requests are sent at a time: the server begins with a request within a minute or
refuses it, and on two cores a crowd takes a good part of that."""
MEMORY_PARTS = 8
STATISTICS = ("queue", "compute_input", "compute_infer", "compute_output")


def ask(client: CocoerClient, workload: Workload, timing: bool = False) -> dict[str, Any]:
    """Send one request of a workload; its RESULT."""
    persons = [{"body": row[:4].tolist(), "head": row[4:].tolist()} for row in workload.boxes]
    given = persons if workload.persons is not None else None
    return client.infer_raw(workload.jpeg, given, timing=timing)


def starts(repository: Path, log: Path, workload: Workload, times: int) -> dict[str, list[float]]:
    """Start a server so many times.

    Returns:
        of each start ``ready_s``, ``first_ms`` (its first request), ``median_ms`` (of the 20 after it) and
        ``memory_mb`` (PSS, after those).
    """
    found: dict[str, list[float]] = {name: [] for name in ("ready_s", "first_ms", "median_ms", "memory_mb")}
    for _ in range(times):
        started = time.perf_counter()
        with TritonServer(repository, log) as server, CocoerClient(server.url, timeout=120) as client:
            assert server.process is not None
            ready = time.perf_counter() - started
            values = (ready, *_first_and_median(client, workload), process_memory_mb(server.process.pid))
            for name, value in zip(found, values):
                found[name].append(value)
    return found


def _first_and_median(client: CocoerClient, workload: Workload) -> tuple[float, float]:
    times = []
    for _ in range(21):
        started = time.perf_counter()
        ask(client, workload)
        times.append(1000 * (time.perf_counter() - started))
    return times[0], statistics.median(times[1:])


Send = Callable[[Workload, int], None]
"""Sends so many requests of a workload, ``at_a_time`` of them."""


def at_a_time(workload: Workload) -> int:
    """How many requests are in flight while memory is read."""
    return MEMORY_CONCURRENCY // 2 if (workload.persons or 0) >= CROWD else MEMORY_CONCURRENCY


def most_memory(root: int, send: Send, kinds: Sequence[Workload], each: int, endurance: int) -> dict[str, Any]:
    """The most memory a server holds while it answers, PSS of all processes, MB; speed is not measured meanwhile.

    Args:
        root: the server's process.
        send: to it.
        kinds: of requests, one after the other; the first is the endurance run's too.
        each: requests of each kind.
        endurance: requests in eight parts, after those.

    Returns:
        ``kinds``: name -> most MB; ``in_flight``: name -> requests at a time; ``endurance_mb``: most of each part;
        ``each``, ``requests``, ``readings``.
    """
    seen, parts, readings = {}, [], 0
    for kind in kinds:
        with MostMemory(root) as most:
            send(kind, each)
        seen[kind.name] = most.mb
        readings += most.readings
    for _ in range(MEMORY_PARTS):
        with MostMemory(root) as most:
            send(kinds[0], endurance // MEMORY_PARTS)
        parts.append(most.mb)
        readings += most.readings
    in_flight = {kind.name: at_a_time(kind) for kind in kinds}
    counts = {"each": each, "requests": endurance, "readings": readings}
    return {"kinds": seen, "in_flight": in_flight, "endurance_mb": parts, **counts}


def sender(url: str) -> Send:
    """Sends to a server."""

    def send_share(workload: Workload, count: int) -> None:
        with CocoerClient(url, timeout=300) as client:
            for _ in range(count):
                ask(client, workload)

    def send(workload: Workload, count: int) -> None:
        clients = at_a_time(workload)
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(send_share, [workload] * clients, [-(-count // clients)] * clients))

    return send


def break_down(client: CocoerClient, workload: Workload, repeats: int) -> dict[str, Any]:
    """Means of single requests, in milliseconds: the client's, the BLS's stages, and Triton's statistics of each model.

    Returns:
        ``client_ms``; ``stages``: stage -> ms; ``models``: model -> its requests per image, ``queue``,
        ``compute_input``, ``compute_infer``, ``compute_output``, ms per image.
    """
    triton = grpcclient.InferenceServerClient(client.url)
    ask(client, workload)
    before = _statistics(triton)
    stages: dict[str, float] = {}
    elapsed = 0.0
    for _ in range(repeats):
        started = time.perf_counter()
        result = ask(client, workload, timing=True)
        elapsed += 1000 * (time.perf_counter() - started)
        for name, milliseconds in result["timing_ms"].items():
            stages[name] = stages.get(name, 0.0) + milliseconds
    after = _statistics(triton)
    triton.close()
    models = {
        model: {key: (values[key] - before[model][key]) / repeats for key in values}
        for model, values in after.items()
        if values["requests"] > before[model]["requests"]
    }
    return {
        "client_ms": elapsed / repeats,
        "stages": {name: total / repeats for name, total in stages.items()},
        "models": models,
    }


def _statistics(triton: grpcclient.InferenceServerClient) -> dict[str, dict[str, float]]:
    """Model -> its number of requests and cumulated milliseconds."""
    found = {}
    for model in triton.get_inference_statistics(as_json=True)["model_stats"]:
        values = model.get("inference_stats", {})
        times = {key: int(values.get(key, {}).get("ns", 0)) / 1e6 for key in STATISTICS}
        found[model["name"]] = {"requests": float(values.get("success", {}).get("count", 0)), **times}
    return found
