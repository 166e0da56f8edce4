"""What is measured on a running server: latency and rate under load, where the time goes, memory, the first request."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tritonclient.grpc as grpcclient

from benchmarks import perf_analyzer
from benchmarks.machine import process_memory_mb
from benchmarks.workloads import Workload
from cocoer_client import CocoerClient
from export.build_engines import progress
from serving.server import TritonServer

MEMORY_CONCURRENCY = 4
MEMORY_SAMPLES = 8
STATISTICS = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is measured."""

    repeats: int
    requests: int
    """Of each of perf_analyzer's measurement windows."""
    concurrencies: tuple[int, ...]
    memory_requests: int


def ask(client: CocoerClient, workload: Workload, timing: bool = False) -> dict[str, Any]:
    """Send one request of a workload; its RESULT."""
    persons = [{"body": row[:4].tolist(), "head": row[4:].tolist()} for row in workload.boxes]
    given = persons if workload.persons is not None else None
    return client.infer_raw(workload.jpeg, given, timing=timing)


def measure(
    repository: Path, log: Path, binary: Path, workloads: Mapping[str, list[Workload]], plan: Plan
) -> dict[str, Any]:
    """All of it, on a server of its own.

    Args:
        repository, log: see ``TritonServer``.
        binary: perf_analyzer.
        workloads: "swept" (over the concurrencies), "alone" (at concurrency 1), "broken down".
        plan: see ``Plan``.
    """
    started = time.perf_counter()
    with TritonServer(repository, log) as server, CocoerClient(server.url, timeout=120) as client:
        ready = time.perf_counter() - started
        assert server.process is not None
        first, median = _first_and_median(client, workloads["swept"][0])
        light = process_memory_mb(server.process.pid)
        served: dict[str, list[dict[str, float]]] = {}
        for workload in [*workloads["swept"], *workloads["alone"]]:
            for concurrency in plan.concurrencies if workload in workloads["swept"] else (1,):
                progress(f"served: {workload.name}, concurrency {concurrency}")
                load = perf_analyzer.measure(binary, server.url, workload, concurrency, plan.requests)
                served.setdefault(workload.name, []).append(dataclasses.asdict(load))
        progress("served: where the time goes")
        stages = {w.name: break_down(client, w, plan.repeats) for w in workloads["broken down"]}
        progress(f"served: memory over {plan.memory_requests} requests")
        memory = _memory_over(server, workloads["swept"][0], plan.memory_requests)
    return {
        "server": {"ready_s": ready, "first_ms": first, "median_ms": median, "memory_light_mb": light},
        "memory": {"requests": plan.memory_requests, "concurrency": MEMORY_CONCURRENCY, "mb": memory},
        "served": served,
        "stages": stages,
    }


def loads(repository: Path, log: Path, binary: Path, workload: Workload, plan: Plan) -> list[dict[str, float]]:
    """One workload over concurrencies 1 and 4, on a server of its own."""
    with TritonServer(repository, log) as server:
        measured = [perf_analyzer.measure(binary, server.url, workload, count, plan.requests) for count in (1, 4)]
    return [dataclasses.asdict(load) for load in measured]


def _first_and_median(client: CocoerClient, workload: Workload) -> tuple[float, float]:
    times = []
    for _ in range(21):
        started = time.perf_counter()
        ask(client, workload)
        times.append(1000 * (time.perf_counter() - started))
    return times[0], statistics.median(times[1:])


def _memory_over(server: TritonServer, workload: Workload, requests: int) -> list[float]:
    """PSS of the server's processes in MB, before the requests and after each eighth of them."""
    assert server.process is not None
    memory = [process_memory_mb(server.process.pid)]

    def send(count: int) -> None:
        with CocoerClient(server.url, timeout=120) as client:
            for _ in range(count):
                ask(client, workload)

    with ThreadPoolExecutor(MEMORY_CONCURRENCY) as pool:
        for _ in range(MEMORY_SAMPLES):
            share = requests // MEMORY_SAMPLES // MEMORY_CONCURRENCY
            list(pool.map(send, [share] * MEMORY_CONCURRENCY))
            memory.append(process_memory_mb(server.process.pid))
    return memory


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
