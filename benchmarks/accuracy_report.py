"""The accuracy report: figures of each variant on the same persons, as table, JSON and plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.datasets import DataSet
from benchmarks.precision import Interval, average_precision, bootstrap_ap, mean, resamplings, top1
from benchmarks.predictions import Predictions
from benchmarks.tables import markdown
from cocoer.files import replace_file
from export.files import write_json, write_text

matplotlib.use("Agg")

from matplotlib.figure import Figure  # noqa: E402

SHOWN_FAILURES = 20


@dataclass(frozen=True)
class Measured:
    """A variant's figures."""

    name: str
    predictions: Predictions
    compared: int
    """Persons that all variants answered; the figures are of these."""
    examples: np.ndarray
    """INT64 [26]: of each category, among them."""
    ap: list[Interval]
    mean_ap: Interval
    gain: Interval | None
    """mAP less the first variant's, on the same resamplings; None for the first."""
    top1: Interval | None
    faces: Faces | None = None


@dataclass(frozen=True)
class Faces:
    """The other protocol: only persons whose face all variants found, or was annotated."""

    compared: int
    mean_ap: Interval
    gain: Interval | None


def compare(variants: Sequence[Predictions], repeats: int, with_top1: bool) -> list[Measured]:
    """Figures of variants of one data set, on the persons that all of them answered.

    Args:
        variants: predictions of the same persons.
        repeats: bootstrap resamplings; the same for all variants.
        with_top1: the share of right most probable labels as well, among the categories that occur.
    """
    common = np.logical_and.reduce([one.answered for one in variants])
    truth = variants[0].truth[common]
    weights = resamplings(variants[0].images[common], repeats)
    measured: list[Measured] = []
    figures = _figures(variants, common, truth, weights)
    for name, one, (ap, samples), (overall, gain) in zip(_names(variants), variants, figures, _mean_aps(figures)):
        scores = one.scores[common]
        intervals = [Interval.of(ap[c], samples[:, c]) for c in range(truth.shape[1])]
        share = _top1(truth, scores, weights) if with_top1 else None
        counts = truth.sum(axis=0)
        measured.append(Measured(name, one, len(truth), counts, intervals, overall, gain, share))
    found = np.logical_and.reduce([one.with_face for one in variants])
    if np.array_equal(found, common):  # no head was guessed: the same persons, and the same resamplings of them
        return [replace(one, faces=Faces(one.compared, one.mean_ap, one.gain)) for one in measured]
    return [replace(one, faces=faces) for one, faces in zip(measured, _with_faces(variants, found, repeats))]


def _with_faces(variants: Sequence[Predictions], found: np.ndarray, repeats: int) -> list[Faces | None]:
    """mAP of each variant on the persons whose head none had to guess."""
    if not found.any():
        return [None] * len(variants)
    truth, weights = variants[0].truth[found], resamplings(variants[0].images[found], repeats)
    return [Faces(len(truth), overall, gain) for overall, gain in _mean_aps(_figures(variants, found, truth, weights))]


Figures = list[tuple[np.ndarray, np.ndarray]]
"""Of each variant AP [C], and that of the resamplings [R, C]."""


def _figures(variants: Sequence[Predictions], chosen: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> Figures:
    scores = [one.scores[chosen] for one in variants]
    return [(average_precision(truth, one), bootstrap_ap(truth, one, weights)) for one in scores]


def _mean_aps(figures: Figures) -> list[tuple[Interval, Interval | None]]:
    """mAP of each variant, and less the first one's on the same resamplings."""
    means = [(float(mean(ap)), mean(samples)) for ap, samples in figures]
    (first, of_first), *_ = means
    gains = [None, *(Interval.of(value - first, samples - of_first) for value, samples in means[1:])]
    return [(Interval.of(*one), gain) for one, gain in zip(means, gains)]


SETTINGS = ("channel_order", "precision", "coordination_step", "weights")
"""Of a build, as RESULT tells them."""


def _settings(one: Predictions) -> dict[str, Any]:
    return {key: getattr(one.model, key, None) for key in SETTINGS}


def _names(variants: Sequence[Predictions]) -> list[str]:
    """Each variant by what differs; all settings where nothing does."""
    settings = [{key: value for key, value in _settings(one).items() if key != "weights"} for one in variants]
    differing = [key for key in SETTINGS[:3] if len({one[key] for one in settings}) > 1] or list(SETTINGS[:3])
    return [" ".join(_word(key, one[key]) for key in differing) for one in settings]


def _word(key: str, value: Any) -> str:
    return f"step {value:g}" if key == "coordination_step" and value is not None else str(value)


def _top1(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Interval:
    occur = truth.any(axis=0)
    samples = [top1(truth[:, occur], scores[:, occur], sample) for sample in weights]
    return Interval.of(top1(truth[:, occur], scores[:, occur]), np.array(samples))


def to_report(measured: Sequence[Measured], settings: Mapping[str, Any], data: DataSet | None = None) -> dict[str, Any]:
    """The figures as plain data."""
    first = measured[0]
    return {
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()},
        "persons": {"annotated": len(first.predictions.truth), "compared": first.compared},
        "edition": data.edition if data else None,
        "notes": data.notes if data else [],
        "dropped": data.dropped if data else [],
        "dropped_summary": data.dropped_summary() if data else "",
        "images": int(len(np.unique(first.predictions.images))),
        "labels": list(first.predictions.labels),
        "examples": first.examples.tolist(),
        "variants": [
            {
                "name": one.name,
                **_settings(one.predictions),
                "synthetic": bool(one.predictions.model and one.predictions.model.synthetic),
                "answered": int(one.predictions.answered.sum()),
                "guessed_heads": one.predictions.guessed,
                "refused": one.predictions.refused,
                "failures": one.predictions.failures,
                "faces_only": {
                    "compared": one.faces.compared,
                    "mAP": one.faces.mean_ap.as_dict(),
                    "gain": one.faces.gain.as_dict() if one.faces.gain else None,
                }
                if one.faces
                else None,
                "mAP": one.mean_ap.as_dict(),
                "gain": one.gain.as_dict() if one.gain else None,
                "top1": one.top1.as_dict() if one.top1 else None,
                "AP": {label: ap.as_dict() for label, ap in zip(first.predictions.labels, one.ap)},
            }
            for one in measured
        ],
    }


def to_markdown(report: Mapping[str, Any]) -> str:
    """The report as tables."""
    variants = report["variants"]
    persons = report["persons"]
    lines = [f"# Accuracy on {report['settings'].get('dataset')}", ""]
    if any(one["synthetic"] for one in variants):
        lines += ["**Synthetic weights: random numbers, these figures mean nothing.**", ""]
    if report["edition"]:
        lines += [f"Edition: {report['edition']}. Of the file, {report['dropped_summary']}.", ""]
    lines += [line for note in report["notes"] for line in (note, "")]
    lines += [
        f"{report['images']} images, {persons['annotated']} annotated persons; the figures are of the "
        f"{persons['compared']} that every variant answered. In brackets: 95% intervals (bootstrap over images).",
        "",
        _figures_table(report),
        "",
        markdown(
            ("variant", "channels", "precision", "step", "answered", "heads guessed", "boxes refused", "images failed"),
            [
                (
                    one["name"],
                    *(str(one[key]) for key in SETTINGS[:3]),
                    f"{one['answered']} of {persons['annotated']}",
                    str(one["guessed_heads"]),
                    str(len(one["refused"])),
                    str(len(one["failures"])),
                )
                for one in variants
            ],
        ),
        "",
    ]
    listed = [*variants[0]["failures"], *variants[0]["refused"], *report["dropped"]]
    lines += [f"- {problem}" for problem in listed[:SHOWN_FAILURES]]
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def _figures_table(report: Mapping[str, Any]) -> str:
    variants = report["variants"]
    rows = [
        [label, str(count), *(_percent(one["AP"][label]) for one in variants)]
        for label, count in zip(report["labels"], report["examples"])
    ]
    overall = {"mAP": "**mAP**", "gain": "mAP, gain over the first", "top1": "most probable label is right"}
    rows += [
        [name, "", *(_percent(one[key]) for one in variants)]
        for key, name in overall.items()
        if any(one[key] for one in variants)
    ]
    faces = variants[0]["faces_only"]
    if faces:
        for key, name in (("mAP", "mAP, faces found"), ("gain", "the same, gain over the first")):
            if any(one["faces_only"][key] for one in variants):
                rows.append([name, str(faces["compared"]), *(_percent(one["faces_only"][key]) for one in variants)])
    return markdown(("category", "persons", *(one["name"] for one in variants)), rows)


def _percent(interval: Mapping[str, float] | None) -> str:
    if interval is None or np.isnan(interval["value"]):
        return ""
    return "{value:.2f} ({low:.2f} .. {high:.2f})".format(**{key: 100 * value for key, value in interval.items()})


def write_report(
    measured: Sequence[Measured], settings: Mapping[str, Any], directory: Path, data: DataSet | None = None
) -> dict[str, Any]:
    """Write ``accuracy.md``, ``accuracy.json`` and ``accuracy.png`` atomically; the report."""
    report = to_report(measured, settings, data)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "accuracy.json", _without_nan(report))
    write_text(directory / "accuracy.md", to_markdown(report))
    figure = _figure(report)
    replace_file(directory / "accuracy.png", partial(figure.savefig, dpi=130, format="png"))
    return report


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _figure(report: Mapping[str, Any]) -> Figure:
    variants = report["variants"]
    first = variants[0]["AP"]
    shown = [label for label in report["labels"] if not np.isnan(first[label]["value"])]
    shown.sort(key=lambda label: first[label]["value"])
    figure = Figure(figsize=(8, 1.5 + 0.28 * len(shown) * max(1, 0.6 * len(variants))), layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(variants)
    for index, one in enumerate(variants):
        values = np.array([[100 * one["AP"][label][key] for key in ("value", "low", "high")] for label in shown])
        errors = np.abs(np.clip([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]], 0, None))
        places = np.arange(len(shown)) + 0.4 - height * (index + 0.5)
        name = f"{one['name']}, mAP {100 * one['mAP']['value']:.1f}"
        axes.barh(places, values[:, 0], height, xerr=errors, label=name, color=f"C{index}", ecolor="0.3", capsize=2)
    axes.set(yticks=np.arange(len(shown)), yticklabels=shown, xlim=(0, 100), xlabel="average precision, %")
    synthetic = " (SYNTHETIC WEIGHTS)" if variants[0]["synthetic"] else ""
    axes.set_title(f"{report['settings'].get('dataset')}: {report['persons']['compared']} persons{synthetic}")
    axes.margins(y=0.01)
    figure.legend(loc="outside lower center", fontsize=9, ncols=2)
    axes.grid(axis="x", alpha=0.3)
    return figure
