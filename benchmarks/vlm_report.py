"""The report of ``benchmarks/vlm.py`` as plain data, and its files."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.vlm_plot import figure_of
from benchmarks.vlm_run import Arrays, Outcome, Run, labels_of, probabilities_of
from benchmarks.vlm_scores import Figures, Precisions, Scores, score, score_probabilities, verdict
from benchmarks.vlm_text import to_markdown
from cocoer.files import replace_file
from cocoer_client.vlm.cost import money
from cocoer_client.vlm.privacy import host_of
from export.files import write_json, write_text

OPTIONS = ("dataset", "split", "limit", "seed", "map", "missing_head", "array_order", "bootstrap", "average_precision")
"""Of the command line, that are told. Not all: headers may hold a key."""


def write_report(run: Run, directory: Path) -> dict[str, Any]:
    """Write ``vlm.md``, ``vlm.json`` and, where there are figures, ``vlm.png``, each in one step; the report."""
    report = to_report(run)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "vlm.json", without_nan(report))
    write_text(directory / "vlm.md", to_markdown(report))
    if report["figures"]:
        figure = figure_of(report)
        replace_file(directory / "vlm.png", partial(figure.savefig, dpi=130, format="png"))
    return report


def to_report(run: Run) -> dict[str, Any]:
    """The report."""
    compared, usage = run.compared, run.usage()
    read = [one for one in compared if one.is_read]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "model": run.endpoint.model,
        "host": host_of(run.endpoint.base_url),
        "prompt": {"version": run.questions.prompt.version, "digest": run.questions.prompt.digest}
        | {"text": run.questions.prompt.text},
        "modes": list(run.questions.modes),
        "notes": list(run.notes),
        "options": _options(run),
        "cocoer": run.model.model_dump(mode="json"),
        "data": {
            "edition": run.data.edition,
            "notes": run.data.notes,
            "dropped": run.data.dropped,
            "dropped_summary": run.data.dropped_summary(),
        },
        "persons": {
            "images": len(run.images),
            "annotated": sum(len(image.example.subjects) for image in run.images),
            "asked": len(run.outcomes),
            "without_face": sum(image.nobody for image in run.images),
            "guessed_heads": sum(one.annotated.guessed for one in run.outcomes),
            "refused_boxes": [text for image in run.images for text in image.refused],
            "failed_images": [image.failure for image in run.images if image.failure] + run.unread,
            "failed_answers": len(run.failed),
            "compared": len(compared),
            "answered_in_every_mode": len(read),
        },
        "answers": run.kinds(),
        "excluded": run.excluded(),
        "coincide": run.coincide(),
        "usage": {
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "cost": money(usage.prompt, usage.completion, run.args.prices) if run.args.prices else None,
            "answers_kept": run.kept(),
        },
        "figures": _figures(run, compared),
        "figures_of_answered": _figures(run, read),
        "average_precision": _average_precision(run),
        "labels": list(run.questions.labels),
        "outcomes": [_outcome(one) for one in run.outcomes],
    }


def _options(run: Run) -> dict[str, Any]:
    told = {name: getattr(run.args, name) for name in OPTIONS}
    images = run.questions.images
    sent = {"longest_side": images.longest_side, "detail": run.questions.detail, "collage": images.collage}
    return {**told, **sent, "max_tokens": run.endpoint.max_tokens}


def _figures(run: Run, outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    if not outcomes:
        return None
    arrays = Arrays.of(outcomes, run.questions.labels)
    scores: Scores = score(arrays.truth, arrays.answers, arrays.images, run.args.bootstrap)
    return {
        "persons": scores.persons,
        "images": scores.images,
        "labels_that_occur": scores.occurring,
        "labels_per_person": float(arrays.truth.sum(axis=1).mean()),
        "ways": {way: _told(figures) for way, figures in scores.ways.items()},
        "differences": [
            {
                "of": one,
                "less": other,
                **{name: interval.as_dict() | {"verdict": verdict(interval)} for name, interval in difference.items()},
            }
            for (one, other), difference in scores.differences.items()
        ],
    }


def _told(figures: Figures) -> dict[str, dict[str, float]]:
    return {name: interval.as_dict() for name, interval in figures.items()}


def _average_precision(run: Run) -> dict[str, Any] | None:
    """None: not asked for."""
    if run.yes_no is None:
        return None
    whole = [one for one in run.compared if one.probabilities is not None]
    about = {"persons": len(whole), "left_out": len(run.compared) - len(whole), "failed": run.yes_no.failed}
    if not whole:
        return {**about, "given": not run.yes_no.gives_none, "ways": {}, "labels": {}, "differences": []}
    arrays = Arrays.of(whole, run.questions.labels)
    found: Precisions = score_probabilities(arrays.truth, probabilities_of(whole), arrays.images, run.args.bootstrap)
    return {
        **about,
        "given": True,
        "ways": _told(found.ways),
        "labels": {way: dict(zip(run.questions.labels, values)) for way, values in found.labels.items()},
        "differences": [
            {"of": one, "less": other, **interval.as_dict(), "verdict": verdict(interval)}
            for (one, other), interval in found.differences.items()
        ],
    }


def _outcome(one: Outcome) -> dict[str, Any]:
    """A person's answers; the text only of those that could not be read."""
    person = one.annotated.person
    return {
        "image": one.file,
        "person": person["id"],
        "guessed_head": one.annotated.guessed,
        "annotated": sorted(one.annotated.labels),
        "emo_process": person["emo_process"],
        "CocoER": person["pred"],
        "answers": {
            asked.mode: {
                "excluded": asked.excluded,
                "kind": asked.answer.kind,
                "labels": list(labels_of(asked.answer)),
                **({"unknown": list(asked.answer.unknown)} if asked.answer.unknown else {}),
                **({} if asked.answer.is_read else {"text": asked.answer.text}),
            }
            for asked in one.asked
        },
    }


def without_nan(value: Any) -> Any:
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
