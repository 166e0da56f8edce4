"""A report's plots: latency over concurrency, time by stage, cost over persons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from cocoer.files import replace_file  # noqa: E402
from cocoer_bls.metrics import STAGES  # noqa: E402

Report = Mapping[str, Any]
PLOTS = ("latency", "stages", "persons")


def write_plots(report: Report, directory: Path) -> None:
    """Write ``latency.png``, ``stages.png``, ``persons.png``."""
    for name, draw in zip(PLOTS, (_latency, _stages, _persons)):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        draw(report, axes)
        axes.set_title(
            f"{axes.get_title()}\n{report['machine']['cpu']}, {report['machine']['cores']} cores", fontsize=10
        )
        replace_file(directory / f"{name}.png", partial(figure.savefig, dpi=110, format="png"))


def _latency(report: Report, axes: Axes) -> None:
    for index, (name, loads) in enumerate(report["served"].items()):
        if len(loads) > 1:
            concurrency = [load["concurrency"] for load in loads]
            axes.plot(concurrency, [load["p50"] for load in loads], "o-", color=f"C{index}", label=f"{name}, p50")
            axes.plot(concurrency, [load["p99"] for load in loads], ":", color=f"C{index}", label=f"{name}, p99")
            axes.set_xticks(concurrency)
    axes.set(xlabel="requests in flight", ylabel="ms", title="Latency over concurrency (perf_analyzer)", ylim=(0, None))
    axes.legend(fontsize=8)


def _stages(report: Report, axes: Axes) -> None:
    names = list(report["stages"])
    columns = [stage_parts(report["stages"][name]) for name in names]
    parts = {part: [column.get(part, 0.0) for column in columns] for part in parts_of(columns)}
    left = [0.0] * len(names)
    for index, (part, values) in enumerate(parts.items()):
        axes.barh(names, values, left=left, label=part, color=f"C{index}")
        left = [sum(pair) for pair in zip(left, values)]
    axes.invert_yaxis()
    axes.set(xlabel="ms", title="Where a request's time goes")
    axes.legend(fontsize=7, ncols=2)


def _persons(report: Report, axes: Axes) -> None:
    served = {
        report["persons"][name]: loads[0]["p50"] for name, loads in report["served"].items() if name.endswith("given")
    }
    axes.plot(*zip(*sorted(served.items())), "o-", label="served, p50")
    for label, times in (
        ("in-process", {name: entry["latency_ms"] for name, entry in report["ceiling"].items()}),
        ("the release's way", report["release_ms"]),
    ):
        points = {report["persons"][name]: value for name, value in times.items() if name.endswith("given")}
        axes.plot(*zip(*sorted(points.items())), "s--", label=label)
    axes.set(xlabel="persons in the image", ylabel="ms", title="Cost over persons (boxes given)", yscale="log")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize=8)


def parts_of(columns: Sequence[Mapping[str, float]]) -> list[str]:
    """The parts that any of them has, in order."""
    found = {part for column in columns for part in column}
    return [part for part in STAGES if part in found] + sorted(found.difference(STAGES))


def stage_parts(breakdown: Mapping[str, Any]) -> dict[str, float]:
    """One request's time in parts that add up to the client's, in ms: the BLS's stages, and what lies around them.

    ``detection`` and ``recognition`` are the calls of the ensembles, whose models partly run side by side.
    """
    stages = breakdown["stages"]
    around = breakdown["client_ms"] - sum(stages.values())
    return {**{name: stages[name] for name in STAGES if name in stages}, "gRPC, queue, copies": around}
