"""The plot of ``benchmarks/vlm.py``: each way's figures, and the differences, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

Report = Mapping[str, Any]
Row = Sequence[Mapping[str, float]]
SHOWN = ("micro F1", "macro F1")
COLOURS = {"micro F1": "C0", "macro F1": "C1", "mAP": "C2"}
MARKERS = {"micro F1": "o", "macro F1": "s", "mAP": "D"}


def figure_of(report: Report) -> Figure:
    """The plot of a report that has figures."""
    found, precision = report["figures"], report["average_precision"]
    ways = {way: {name: figures[name] for name in SHOWN} for way, figures in found["ways"].items()}
    differences = {f"{one['of']} −\n{one['less']}": {name: one[name] for name in SHOWN} for one in found["differences"]}
    if precision and precision["ways"]:
        for way, interval in precision["ways"].items():
            ways[way]["mAP"] = interval
        for one in precision["differences"]:
            differences[f"{one['of']} −\n{one['less']}"]["mAP"] = one
    figure = Figure(figsize=(10.5, 1.9 + 0.5 * len(ways)), layout="constrained")
    if differences:
        left, right = figure.subplots(1, 2)
        _draw(right, differences)
        right.axvline(0, color="0.2", linewidth=1)
        right.set(xlabel="difference, points; an interval that holds 0 shows none", title="Differences")
    else:
        left = figure.subplots()
    _draw(left, ways)
    left.set(xlabel="%", xlim=(0, None), title="Figures")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    told = (
        f"{report['model']} on {report['options']['dataset']}: {found['persons']} persons in {found['images']} images"
    )
    told += "; 95% intervals (bootstrap over images)"
    synthetic = report["cocoer"]["synthetic"]
    told += "\nSYNTHETIC WEIGHTS OF CocoER: the level that is left out is random" if synthetic else ""
    figure.suptitle(told, fontsize=11, color="C3" if synthetic else "black")
    return figure


def _draw(axes: Axes, rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    names = list(dict.fromkeys(name for figures in rows.values() for name in figures))
    for index, name in enumerate(names):
        offset = 0.18 * (index - (len(names) - 1) / 2)
        places = [place + offset for place, figures in enumerate(rows.values()) if name in figures]
        values = np.array(
            [
                [100 * figures[name][key] for key in ("value", "low", "high")]
                for figures in rows.values()
                if name in figures
            ]
        )
        spans = np.nan_to_num(np.clip([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]], 0, None))
        axes.errorbar(
            values[:, 0],
            places,
            xerr=spans,
            fmt=MARKERS[name],
            color=COLOURS[name],
            label=name,
            capsize=3,
            markersize=5,
        )
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
