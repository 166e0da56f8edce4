"""A report's plots: latency over concurrency, time by stage, cost over persons."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from benchmarks import figures  # noqa: E402
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
    for index, (name, by_concurrency) in enumerate(report["served"].items()):
        if len(by_concurrency) > 1:
            concurrency = sorted(map(int, by_concurrency))
            turns = [[load["p50"] for load in by_concurrency[str(count)]] for count in concurrency]
            axes.plot(concurrency, list(map(statistics.median, turns)), "o-", color=f"C{index}", label=f"{name}, p50")
            low, high = list(map(min, turns)), list(map(max, turns))
            axes.fill_between(concurrency, low, high, color=f"C{index}", alpha=0.2, label="its range over turns")
            axes.set_xticks(concurrency)
    axes.set(xlabel="requests in flight", ylabel="ms", title="Latency over requests in flight", ylim=(0, None))
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
    named = [name for name in report["served"] if name.endswith("given")]
    ways = {
        "served, p50": {name: figures.p50(report, name) for name in named},
        "in-process": {name: figures.in_process_ms(report, name, 1)[1] for name in named},
        "PyTorch port": report.get("port_ms", {}),
        "the release's way": report["release_ms"],
    }
    for label, times in ways.items():
        points = {report["persons"][name]: statistics.median(times[name]) for name in named if times.get(name)}
        if points:
            axes.plot(*zip(*sorted(points.items())), "o-" if label.startswith("served") else "s--", label=label)
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
