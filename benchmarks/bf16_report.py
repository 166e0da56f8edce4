"""What ``benchmarks.bf16`` measured, as Markdown: medians and ranges of its rounds, and the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime as ort

from benchmarks.figures import ratios
from benchmarks.tables import markdown
from benchmarks.turns import spread, verdict

Times = dict[str, list[float]]
"""Way -> milliseconds in each round."""
FP32, BF16, RELEASE = "FP32, ONNX Runtime", "bf16, OpenVINO", "the release's way"
CONCURRENCY, REQUESTS = 4, 8
ONE, FOUR, DETECTED = "1 person given", "4 persons given", "1 person detected"
BURST = f"{REQUESTS} requests, {CONCURRENCY} at a time: "
TARGETS = ((BURST + ONE, FP32, 1.7), (FOUR, RELEASE, 25), (DETECTED, RELEASE, 7))
"""What is served, what bf16 is compared with, and how many times faster it is to be."""


def gain(before: Sequence[float], after: Sequence[float]) -> str:
    """How many times less the second takes: the median of the rounds, and their range.

    >>> gain([10.0, 12.0, 9.0], [5.0, 4.0, 3.0])
    '3.0 (2.0 to 3.0)'
    """
    return spread(ratios(before, after), 1)


def to_markdown(report: Mapping[str, Any]) -> str:
    """The report; parts that were not measured are not in it."""
    described = report["machine"]
    return "\n".join(
        (
            f"# bf16 on {described['cpu']}, {described['cores']} cores",
            "",
            f"{report['time']}, `{report['command']}`; OpenVINO {report['openvino']}, ONNX Runtime {ort.__version__}.",
            "",
            f"Rounds: {report['rounds']}. In each, what stands in one line was measured once, one after the other. "
            "Milliseconds, and how many times faster in the same round: the median of the rounds, and their range. A "
            "target is met or missed if it is in every round, otherwise it lies within noise.",
            "",
            *(_targets(report["served"]) if report["served"] else ()),
            *(_models(report["models"], report["threads"]) if report["models"] else ()),
            *(
                _requests("The networks of a request, in one process", report["ensembles"])
                if report["ensembles"]
                else ()
            ),
            *(_requests("Served", report["served"]) if report["served"] else ()),
        )
    )


def _targets(times: Mapping[str, Times]) -> list[str]:
    rows = []
    for name, before, target in TARGETS:
        found = ratios(times[name][before], times[name][BF16])
        rows.append((f"{name}: bf16 than {before}", spread(found, 1), f">= {target:g}", verdict(found, ">=", target)))
    return [markdown(("times faster, served", "measured", "target", ""), rows), ""]


def _models(models: Sequence[tuple[str, int, Times]], threads: int) -> list[str]:
    rows = [
        (name, str(batch), spread(times[FP32], 1), spread(times[BF16], 1), gain(times[FP32], times[BF16]))
        for name, batch, times in models
    ]
    return [
        f"## Models in one process, {threads} threads",
        "",
        "In bf16 a build serves the detectors and the encoders; `vi_head` and `fusion` are here for comparison.",
        "",
        markdown(("model", "batch", FP32, BF16, "times faster"), rows),
        "",
    ]


def _requests(title: str, asked: Mapping[str, Times]) -> list[str]:
    rows = [
        (
            name,
            spread(times[RELEASE], 1) if RELEASE in times else "",
            spread(times[FP32], 1),
            spread(times[BF16], 1),
            gain(times[FP32], times[BF16]),
            gain(times[RELEASE], times[BF16]) if RELEASE in times else "",
        )
        for name, times in asked.items()
    ]
    header = ("request", RELEASE, "FP32", "bf16", "times faster than FP32", "than the release")
    return [f"## {title}", "", markdown(header, rows), ""]
