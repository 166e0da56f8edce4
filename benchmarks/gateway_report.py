"""The report of what the gateway costs: its arithmetic, and its tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.folder import share_left
from benchmarks.tables import markdown

MAX_MS = 5.0
"""More of a request's p50 than over gRPC directly, at most."""
MIN_SHARE = 0.95
"""Of the rate over gRPC directly, at least."""
MAX_GROWTH = 0.05
"""Of the least memory, from the second quarter of the endurance run to its second half, at most."""
BASE = "gRPC"
"""The way that others are held against."""


def spread(ms: Sequence[float]) -> dict[str, float]:
    """Percentiles of latencies.

    >>> spread([1.0, 2.0, 3.0])["p50"]
    2.0
    """
    return dict(zip(("p50", "p95", "p99"), map(float, np.percentile(ms, (50, 95, 99)))))


def spreads(taken: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Percentiles of each way, and the median of what it took more than gRPC in the same turn, where there is one."""
    found = {way: spread(ms) for way, ms in taken.items()}
    for way, ms in taken.items():
        if way != BASE and BASE in taken:
            found[way]["more"] = statistics.median(one - base for one, base in zip(ms, taken[BASE], strict=True))
    return found


def growth(samples: Sequence[float]) -> float:
    """How much the lowest sample of the second half is above the lowest of the second quarter, as a share.

    What large images leave for the next ones comes and goes; what is never freed raises the lowest too.

    >>> growth([1, 5, 20, 10, 10, 30, 11, 25])
    0.0
    """
    quarter, half = len(samples) // 4, len(samples) // 2
    return min(samples[half:]) / min(samples[quarter:half]) - 1


def met(value: float, target: float, at_least: bool = False) -> str:
    """

    >>> met(4.9, 5), met(0.94, 0.95, at_least=True)
    ('met', 'missed')
    """
    return "met" if (value >= target if at_least else value <= target) else "missed"


def to_markdown(report: Mapping[str, Any]) -> str:
    """All tables of what was measured, and how to read them."""
    described, measured = report["machine"], report["measured"]
    lines = [
        f"# The gateway: {described['cpu']}, {described['cores']} cores",
        "",
        f"{report['time']}, {report['command']}; FP32, synthetic weights and detectors. Triton, the gateway and "
        "the one process that asks share the cores. It asks over gRPC with `AsyncCocoerClient`, and over HTTP with "
        "kept connections, in turns; RESULT is decoded in both.",
        "",
    ]
    for part, write in PARTS.items():
        if part in measured:
            lines += [*write(measured[part], described["cores"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _latency(measured: Mapping[str, Any], _cores: int) -> Iterator[str]:
    yield (
        f"One request at a time, ms. The target is {MAX_MS:g} ms more than gRPC at p50; the last column is the median "
        "of the differences to the gRPC request of the same turn."
    )
    yield ""
    rows = []
    for question, found in measured.items():
        for way, ms in found.items():
            more = ms["p50"] - found[BASE]["p50"]
            verdict = "" if way == BASE else f"{more:+.1f}, {met(more, MAX_MS)}"
            turn = f"{ms['more']:+.1f}" if "more" in ms else ""
            rows.append((question, way, *(_ms(ms[name]) for name in ("p50", "p95", "p99")), verdict, turn))
    yield markdown(("request", "way", "p50", "p95", "p99", "p50 over gRPC", "turn by turn"), rows)


def _throughput(measured: Mapping[str, Any], cores: int) -> Iterator[str]:
    yield (
        f"Eight requests at a time. The target is {MIN_SHARE:.0%} of the rate over gRPC. The last column does not "
        "depend on what else the machine does, nor on the asking process, which needs less over HTTP: the share that "
        "is left where all processor time of the gateway is taken from the server."
    )
    yield ""
    rows = []
    for question, found in measured.items():
        base = _rate(found[BASE])
        for way, done in found.items():
            rate, rates = _rate(done), [one["rate"] for one in done]
            cpu, load = (statistics.mean(one[name] for one in done) for name in ("cpu_ms", "load_ms"))
            left = share_left(base, cpu, cores)
            rows.append(
                (
                    question,
                    way,
                    f"{rate:.2f} ({min(rates):.2f} to {max(rates):.2f})",
                    "" if way == BASE else f"{rate / base:.1%}, {met(rate / base, MIN_SHARE, at_least=True)}",
                    "" if way == BASE else f"{cpu:.1f}",
                    f"{load:.1f}",
                    "" if way == BASE else f"{left:.1%}",
                )
            )
    header = ("request", "way", "requests/s", "of gRPC's", "gateway's CPU, ms", "asking, ms", "by processor time")
    yield markdown(header, rows)


def _rate(done: Sequence[Mapping[str, float]]) -> float:
    """Of all rounds together, each with as many requests.

    >>> _rate([{"rate": 10.0}, {"rate": 30.0}])
    15.0
    """
    return statistics.harmonic_mean([one["rate"] for one in done])


def _drawing(measured: Mapping[str, Any], _cores: int) -> Iterator[str]:
    yield "Annotated images and pages, one request at a time:"
    yield ""
    rows = [
        (
            question,
            path,
            _ms(one["ms"]["p50"]),
            _ms(one["ms"]["p50"] - found["recognise"]["ms"]["p50"]),
            _ms(one["cpu_ms"]),
            f"{one['bytes'] / 1000:.0f}",
        )
        for question, found in measured.items()
        for path, one in found.items()
    ]
    yield markdown(("request", "", "p50, ms", "over recognise", "gateway's CPU, ms", "answer, kB"), rows)


def _idle(measured: Mapping[str, Any], _cores: int) -> Iterator[str]:
    without, with_them = (measured["memory"][key]["pss_mb"] for key in ("without", "with"))
    ms = measured["ms"]
    yield (
        f"{measured['connections']:,} idle connections, of which {measured['left']:,} were left in the end, while "
        f"requests about nobody are answered: p50 {ms['with']['p50']:.1f} ms, p99 {ms['with']['p99']:.1f} ms "
        f"(without them {ms['without']['p50']:.1f} and {ms['without']['p99']:.1f}); the gateway's memory (PSS) "
        f"{with_them:.1f} MB ({without:.1f})."
    )


def _memory(measured: Mapping[str, Any], _cores: int) -> Iterator[str]:
    samples = measured["samples"]
    rises = {name: growth([one[name] for one in samples]) for name in ("rss_mb", "pss_mb")}
    yield (
        f"The gateway's memory over {measured['requests']:,} requests, eight at a time, in {measured['seconds']:.0f} "
        "s. Bodies and forms about nobody, two in ten refused, one in ten annotated, one in a hundred a page, one in a "
        f"hundred of 5 MB; a sample every {measured['step']}, while none is on its way, MB:"
    )
    yield ""
    for name, title in (("rss_mb", "RSS"), ("pss_mb", "PSS")):
        yield f"- {title}: {', '.join(f'{one[name]:.0f}' for one in samples)}"
    yield ""
    yield (
        "What large images leave for the next ones comes and goes. From the second quarter to the second half, the "
        f"lowest sample grows by {rises['rss_mb']:.1%} (RSS) and {rises['pss_mb']:.1%} (PSS); the target is "
        f"{MAX_GROWTH:.0%} at most: {met(max(rises.values()), MAX_GROWTH)}."
    )


def _alone(measured: Mapping[str, Any], cores: int) -> Iterator[str]:
    yield (
        "The gateway alone, before a server that answers at once, sixteen requests at a time (p50: one at a time). "
        f"The asking process and that server use the same {cores} cores, so that two processes don't show what they "
        "could do; the processor time says more than the rate."
    )
    yield ""
    rows = [
        (
            name,
            way,
            f"{one['ms']['p50']:.2f}",
            f"{one['rate']:.0f}",
            "" if way == BASE else f"{one['cpu_ms']:.2f}",
            f"{one['load_ms']:.2f}",
        )
        for name, found in measured.items()
        for way, one in found.items()
    ]
    yield markdown(("", "way", "p50, ms", "requests/s", "gateway's CPU, ms/request", "asking, ms/request"), rows)


PARTS = {
    "latency": _latency,
    "throughput": _throughput,
    "drawing": _drawing,
    "idle": _idle,
    "memory": _memory,
    "alone": _alone,
}
