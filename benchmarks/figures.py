"""What a report's targets are about, a value for each turn: ratios of what was measured in the same turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]
Values = Sequence[float]
"""One for each turn; empty: not measured."""

IN_FLIGHT = 4
"""Requests at a time where rates are compared."""


def p50(report: Report, name: str) -> Values:
    """Of single requests to the server, ms."""
    return [load["p50"] for load in report["served"][name]["1"]]


def rate(report: Report, name: str, concurrency: int = IN_FLIGHT) -> Values:
    """Images per second of the server."""
    return [load["images_per_second"] for load in report["served"][name].get(str(concurrency), [])]


def precision_rate(report: Report, precision: str, concurrency: int = IN_FLIGHT) -> Values:
    """Images per second with other models, one person given."""
    loads = report.get("precisions", {}).get(precision, {}).get(str(concurrency), [])
    return [load["images_per_second"] for load in loads]


def ratios(above: Values, below: Values) -> Values:
    """Turn by turn; none if either was not measured.

    >>> ratios([4, 9], [2, 3]), ratios([1], [])
    ([2.0, 3.0], [])
    """
    return [a / b for a, b in zip(above, below)]


def in_process_ms(report: Report, name: str, requests: int) -> tuple[str, Values]:
    """The schedule whose median over the turns is best, and how long it takes for so many requests, ms.

    One schedule for all turns: the best of each turn would be the luckiest, not the best.
    """
    schedules = report["in_process"].get(name, {}).get(str(requests), {})
    return min(schedules.items(), key=lambda pair: statistics.median(pair[1]), default=("", []))


def in_process_rate(report: Report, name: str) -> Values:
    """Images per second of the best schedule with as many requests at a time as the server has."""
    return [1000 * IN_FLIGHT / ms for ms in in_process_ms(report, name, IN_FLIGHT)[1]]


def speedup(report: Report, name: str) -> Values:
    """Of the server against the release's way."""
    return ratios(report["release_ms"][name], p50(report, name))


def throughput_share(report: Report) -> Values:
    """Of the best in-process schedule's rate that the server reaches."""
    return ratios(rate(report, "1 given"), in_process_rate(report, "1 given"))


def one_more_person(report: Report) -> Values:
    """What a person adds to a request, in units of two trunks alone."""
    added = [(four - one) / 3 for four, one in zip(p50(report, "4 given"), p50(report, "1 given"))]
    return ratios(added, [2 * ms for ms in report["trunk_ms"]])


def trunk_rate(report: Report) -> Values:
    """1e9 operations per second of a trunk alone: the trunk's operations by the trunk's time."""
    return [1000 * report["gflop"]["trunk"] / ms for ms in report["trunk_ms"]]


def flops_share(report: Report) -> Values:
    """Of the rate of a large matrix product that requests with four persons reach, end to end."""
    reached = [1000 * report["gflop"]["4 given"] / ms for ms in p50(report, "4 given")]
    return ratios(reached, report["sgemm_gflops"])


def int8_gain(report: Report) -> Values:
    """Images per second of INT8 against FP32, as many requests at a time."""
    return ratios(precision_rate(report, "INT8"), rate(report, "1 given"))


def most_memory_gb(report: Report) -> Values:
    """The most seen in all of the memory run, 1e9 bytes."""
    memory = report["memory"]
    seen = [*memory["kinds"].values(), *memory["endurance_mb"]]
    return [max(seen) / 1000] if seen else []


def memory_growth(report: Report) -> Values:
    """Most of the endurance run against its first eighth: by then each process has what it needs for this load."""
    parts = report["memory"]["endurance_mb"]
    return [max(parts[1:]) / parts[0]] if parts else []


TARGETS: tuple[tuple[str, Callable[[Report], Values], str, float], ...] = (
    (
        "latency, 1 person with boxes given, against the release's way (times faster)",
        lambda r: speedup(r, "1 given"),
        ">=",
        12,
    ),
    ("latency, 4 persons with boxes given (times faster)", lambda r: speedup(r, "4 given"), ">=", 25),
    ("full pipeline with SCRFD detection, 1 person (times faster)", lambda r: speedup(r, "detected"), ">=", 7),
    (
        f"throughput with {IN_FLIGHT} requests in flight, share of the best in-process schedule's",
        throughput_share,
        ">=",
        0.92,
    ),
    ("cost of one more person, against its two trunks alone in ONNX Runtime", one_more_person, "<=", 1.15),
    ("FLOP/s end to end, 4 persons, share of a large matrix product's", flops_share, ">=", 0.5),
    (f"INT8 (opt-in): throughput with {IN_FLIGHT} requests in flight, against FP32", int8_gain, ">=", 2),
    ("memory of server and models, most seen while it answers, GB (PSS)", most_memory_gb, "<=", 2.0),
    ("memory in the endurance run, most against the most of its first eighth", memory_growth, "<=", 1.05),
    ("start to ready, s", lambda r: r["server"]["ready_s"], "<=", 12),
    ("first request, times the median", lambda r: ratios(r["server"]["first_ms"], r["server"]["median_ms"]), "<=", 1.5),
)
