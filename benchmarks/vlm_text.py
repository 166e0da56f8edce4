"""The report of ``benchmarks/vlm.py`` in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.tables import markdown, plain
from benchmarks.vlm_how import how
from benchmarks.vlm_scores import FIGURES
from cocoer_client.terminal import counted

Report = Mapping[str, Any]
SHOWN_PROBLEMS = 20
SHOWN_TEXTS = 5
FEW_IMAGES = 30
SYNTHETIC = (
    "**The served CocoER has synthetic weights: the level that it excludes first is random. Nothing about the method "
    "can be concluded from these figures, and CocoER's own labels are random numbers.**"
)
UNMEASURED = (
    "Nothing of this kind has been measured with CocoER's official weights in its repository, which has neither them "
    "nor EMOTIC."
)


def to_markdown(report: Report) -> str:
    """The report: what was found, then how."""
    options, data = report["options"], report["data"]
    lines = [f"# {plain(report['model'])} on {options['dataset']}, with CocoER's levels and without one", ""]
    lines += [SYNTHETIC, ""] if report["cocoer"]["synthetic"] else []
    lines += [UNMEASURED, ""]
    lines += [line for note in data["notes"] for line in (note, "")]
    if options["dataset"] != "emotic":
        lines += ["The images have one label each: others that an answer names count as wrong, rightly or not.", ""]
    lines += [*_persons(report), ""]
    if report["figures"]:
        lines += [*_differences(report), *_figures(report)]
    if report["average_precision"]:
        lines += _average_precision(report["average_precision"])
    lines += [*_answers(report), *_levels(report), *how(report)]
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def _persons(report: Report) -> list[str]:
    persons, data = report["persons"], report["data"]
    edition = f"Edition: {data['edition']}. Of the file, {data['dropped_summary']}. " if data["edition"] else ""
    told = [
        f"{edition}{persons['images']} images, {persons['annotated']} annotated persons; {persons['asked']} were asked "
        f"about, and the figures are of {persons['compared']}."
    ]
    if persons["failed_answers"]:
        told += [
            "",
            f"**Left out: {counted(persons['failed_answers'], 'person')} of whom a mode has no answer. Give the same "
            "command again, which asks about these alone.**",
        ]
    counts = {
        "persons without a face in their box": persons["without_face"],
        "boxes refused": len(persons["refused_boxes"]),
        "images failed": len(persons["failed_images"]),
        "heads guessed": persons["guessed_heads"],
    }
    items = [f"- {name}: {count}" for name, count in counts.items() if count]
    problems = [*persons["failed_images"], *persons["refused_boxes"], *data["dropped"]]
    items += [f"- {plain(problem)}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        items.append(f"- and {len(problems) - SHOWN_PROBLEMS} more, in vlm.json")
    return [*told, "", *items] if items else told


def _differences(report: Report) -> list[str]:
    figures = report["figures"]
    if figures["images"] < 2:
        return ["Of one image there are no intervals, and nothing can be compared.", ""]
    lines = ["## Differences", "", "In points of a percentage, with 95% intervals; labels: their number.", ""]
    if figures["images"] < FEW_IMAGES:
        lines += [f"**{figures['images']} images are few: intervals of so few are too narrow.**", ""]
    if _outside(figures):
        lines += [
            "**Some figures lie outside of their intervals: labels are so rare that resamplings lose them. Go by the "
            "micro figures, or ask about more images.**",
            "",
        ]
    if not figures["differences"]:
        return [*lines, "The modes that were asked are not compared with each other.", ""]
    for one in figures["differences"]:
        micro, macro = one["micro F1"], one["macro F1"]
        lines.append(f"- **{one['of']} - {one['less']}**: micro F1 {_difference(micro)}; macro F1 {_difference(macro)}")
    lines += ["", *_claim(report), ""]
    names = [f"{one['of']} - {one['less']}" for one in figures["differences"]]
    rows = [[name, *(_difference(one[name], name) for one in figures["differences"])] for name in FIGURES]
    return [*lines, markdown(("", *names), rows), "", "![Figures and differences](vlm.png)", ""]


def _outside(figures: Mapping[str, Any]) -> bool:
    """Whether resamplings are biased so much that a figure isn't in its interval."""
    found = [*figures["ways"].values(), *({name: one[name] for name in FIGURES} for one in figures["differences"])]
    return any(
        not _is_nan(one["low"]) and not one["low"] <= one["value"] <= one["high"] for of in found for one in of.values()
    )


def _claim(report: Report) -> list[str]:
    """Whether it is the level that CocoER chose that matters."""
    if report["cocoer"]["synthetic"]:
        return ["With synthetic weights this shows nothing about CocoER, whatever the intervals are."]
    found = {(one["of"], one["less"]): one["micro F1"]["verdict"] for one in report["figures"]["differences"]}
    others = {other: found.get(("enhanced", other)) for other in ("multi", "exclude_random", "exclude_last")}
    if None in others.values():
        return ["Whether it matters *which* level is left out can be told only with all of the modes."]
    if report["figures"]["images"] < FEW_IMAGES:
        return ["From so few images nothing is concluded."]
    told = ", ".join(f"{other}: {'yes' if verdict == 'more' else 'no'}" for other, verdict in others.items())
    lines = [f"That CocoER finds the level to leave out would show as enhanced above all three. Shown here, {told}."]
    if report["coincide"]:
        lines += [
            f"For {report['coincide']} of {report['persons']['compared']} persons exclude_random left out the same "
            "level as enhanced, which makes the difference between these two modes smaller."
        ]
    return lines


def _figures(report: Report) -> list[str]:
    lines = [
        "## Figures",
        "",
        "In percent, with 95% intervals; labels: their number.",
        "",
        _ways(report["figures"]),
        "",
    ]
    read, persons = report["figures_of_answered"], report["persons"]
    lines += ["## Figures of the persons that every mode answered", ""]
    if read is None:
        return [*lines, "There are none.", ""]
    if persons["answered_in_every_mode"] == persons["compared"]:
        return [*lines, "These are the same.", ""]
    lines += [
        f"{counted(read['persons'], 'person')} of whom no answer was refused, cut off or unreadable. Whom a model "
        "answers may depend on who is easily seen, so these figures don't stand for all.",
        "",
        _ways(read),
        "",
    ]
    names = [f"{one['of']} - {one['less']}" for one in read["differences"]]
    rows = [[name, *(_difference(one[name], name) for one in read["differences"])] for name in FIGURES]
    return [*lines, markdown(("", *names), rows), ""] if names and read["images"] > 1 else lines


def _ways(figures: Mapping[str, Any]) -> str:
    rows = [[way, *(_value(found[name], name) for name in FIGURES)] for way, found in figures["ways"].items()]
    return markdown(("", *FIGURES), rows)


def _average_precision(found: Mapping[str, Any]) -> list[str]:
    lines = ["## Average precision", ""]
    if not found["ways"]:
        why = "no person has a probability of each label" if found["given"] else "the model gives no log-probabilities"
        return [*lines, f"There is none: {why}.", ""]
    lines += [
        "By one yes/no question for each label: the probability of yes among yes and no, as the first token. "
        f"Of {counted(found['persons'], 'person')}; {found['left_out']} others lack a probability. mAP: over the "
        "labels that occur.",
        "",
        markdown(("", "mAP"), [(way, _value(interval)) for way, interval in found["ways"].items()]),
        "",
        *(f"- **{one['of']} - {one['less']}**: mAP {_difference(one)}" for one in found["differences"]),
        "",
    ]
    labels = [label for label, value in next(iter(found["labels"].values())).items() if not _is_nan(value)]
    rows = [[label, *(f"{100 * of[label]:.2f}" for of in found["labels"].values())] for label in labels]
    return [*lines, markdown(("AP", *found["labels"]), rows), ""]


def _answers(report: Report) -> list[str]:
    answers: Mapping[str, Mapping[str, int]] = report["answers"]
    kinds = list(next(iter(answers.values())))
    rows = [[mode, *(str(count[kind]) for kind in kinds)] for mode, count in answers.items()]
    lines = ["## Answers", "", markdown(("", *kinds), rows), ""]
    texts = [
        f"- {mode}, {one['kind']}: {plain(one['text'])}"
        for outcome in report["outcomes"]
        for mode, one in outcome["answers"].items()
        if one.get("text")
    ]
    return [*lines, "Some of those that are no labels:", "", *texts[:SHOWN_TEXTS], ""] if texts else lines


def _levels(report: Report) -> list[str]:
    excluded: Mapping[str, Mapping[str, int]] = report["excluded"]
    if not excluded:
        return []
    levels = list(next(iter(excluded.values())))
    rows = [[mode, *(str(count[level]) for level in levels)] for mode, count in excluded.items()]
    lines = ["## Levels that were left out", "", markdown(("", *levels), rows), ""]
    if report["coincide"] is not None:
        total = report["persons"]["compared"]
        share = f" ({100 * report['coincide'] / total:.0f}%)" if total else ""
        lines += [
            f"enhanced and exclude_random left out the same for {report['coincide']} of {total} persons{share}.",
            "",
        ]
    return lines


def _value(interval: Mapping[str, float], name: str = "") -> str:
    if _is_nan(interval["value"]):
        return ""
    scale = _scale(name)
    value, *bounds = (f"{scale * interval[key]:.2f}" for key in ("value", "low", "high"))
    return value if _is_nan(interval["low"]) else f"{value} ({' .. '.join(bounds)})"


def _difference(interval: Mapping[str, Any], name: str = "") -> str:
    """Points of a percentage; of the number of labels, labels."""
    if _is_nan(interval["value"]):
        return ""
    scale = _scale(name)
    value, *bounds = (f"{scale * interval[key]:+.2f}" for key in ("value", "low", "high"))
    return f"{value} ({' .. '.join(bounds)}), {interval['verdict']}"


def _scale(name: str) -> float:
    return 1 if name == "labels" else 100


def _is_nan(value: float | None) -> bool:
    return value is None or math.isnan(value)
