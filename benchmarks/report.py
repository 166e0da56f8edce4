"""A report as Markdown: ratios first, for they are the result; absolute times belong to the machine named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]


def _speedup(report: Report, name: str) -> float:
    return report["release_ms"][name] / report["served"][name][0]["p50"]


def _throughput_share(report: Report) -> float:
    four = next(load for load in report["served"]["1 given"] if load["concurrency"] == 4)
    return four["images_per_second"] / report["ceiling"]["1 given"]["images_per_second"]


def _person_cost(report: Report) -> float:
    served = report["served"]
    one_more = (served["4 given"][0]["p50"] - served["1 given"][0]["p50"]) / 3
    return one_more / (2 * report["trunk_ms"])


def _flops_share(report: Report) -> float:
    rate = report["gflop"]["4 given"] / report["served"]["4 given"][0]["p50"] * 1000
    return rate / report["machine"]["sgemm_gflops"]


TARGETS: tuple[tuple[str, Callable[[Report], float], str, float], ...] = (
    (
        "latency, 1 person with boxes given, against the release's way (times faster)",
        lambda r: _speedup(r, "1 given"),
        ">=",
        12,
    ),
    ("latency, 4 persons with boxes given (times faster)", lambda r: _speedup(r, "4 given"), ">=", 25),
    ("throughput at concurrency 4, share of the in-process ceiling", _throughput_share, ">=", 0.92),
    ("cost of one more person, against its two trunks alone in ONNX Runtime", _person_cost, "<=", 1.15),
    ("FLOP/s end to end, 4 persons, share of the measured sgemm peak", _flops_share, ">=", 0.5),
    ("memory of server and models, GB (PSS)", lambda r: r["server"]["memory_mb"] / 1000, "<=", 2.0),
    ("start to ready, s", lambda r: r["server"]["ready_s"], "<=", 12),
    ("first request, times the median", lambda r: r["server"]["first_ms"] / r["server"]["median_ms"], "<=", 1.5),
)


def to_markdown(report: Report) -> str:
    """The whole report."""
    machine = report["machine"]
    lines = [
        f"# {machine['cpu']}, {machine['cores']} cores",
        "",
        f"{report['time']}, {report['command']}; FP32, synthetic weights; "
        f"sgemm peak {machine['sgemm_gflops']:.0f} GFLOP/s.",
        "",
        *_table(("what", "measured", "target", ""), [_target_row(report, *target) for target in TARGETS]),
        "",
        *_table(
            ("request", "release's way, ms", "in-process, ms", "served p50, ms", "p95", "p99", "images/s", "persons/s"),
            [_request_row(report, name, load) for name, loads in report["served"].items() for load in loads],
        ),
    ]
    return "\n".join(lines) + "\n"


def _target_row(report: Report, what: str, value: Callable[[Report], float], sign: str, target: float) -> list[str]:
    measured = value(report)
    met = measured >= target if sign == ">=" else measured <= target
    return [what, f"{measured:.2f}", f"{sign} {target:g}", "met" if met else "missed"]


def _request_row(report: Report, name: str, load: Mapping[str, float]) -> list[str]:
    alone = load["concurrency"] == 1
    release = report["release_ms"].get(name) if alone else None
    ceiling = report["ceiling"].get(name, {}).get("latency_ms") if alone else None
    persons = report["persons"][name]
    times = [f"{load[key]:.0f}" for key in ("p50", "p95", "p99")]
    rates = [f"{load['images_per_second']:.2f}", f"{load['images_per_second'] * persons:.2f}"]
    before = [f"{value:.0f}" if value else "" for value in (release, ceiling)]
    return [f"{name}, concurrency {load['concurrency']}", *before, *times, *rates]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
