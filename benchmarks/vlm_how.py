"""How the figures of ``benchmarks/vlm.py`` were made, in Markdown: the model, the options, definitions, the prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from benchmarks.tables import markdown, plain
from benchmarks.vlm_scores import FIGURES

DEFINITIONS = """\
- *Micro*: over all pairs of a person and a label, of all 26 labels. Precision: right labels / answered labels. Recall:
  right labels / annotated labels. F1: 2 * right / (answered + annotated).
- *Macro*: the same of each label alone, then the mean over the labels that are annotated for at least one of the
  persons (of a resampling: of its persons). A ratio of nothing, as the precision of a label that was never answered,
  is 0.
- *Labels*: mean number of labels in an answer; the annotators' is {per_person:.2f}.
- An answer that was refused, cut off or can't be read counts as one without a label. Names that are no label count as
  nothing, labels beside them as labels. A person of whom a mode has no answer at all, for a fault of the network or the
  server, is left out of all modes.
- Intervals: 95%, percentiles of {bootstrap} resamplings of the images, with all their persons; the same resamplings for
  all modes, so that differences are paired. *No difference shown*: the interval holds 0, which does not prove that
  there is none. Where nothing differs, one interval in twenty leaves out 0 by chance; here are {intervals}.
- CocoER: the served model's own labels of the same persons."""


def how(report: Mapping[str, Any]) -> list[str]:
    """The end of the report, by lines."""
    prompt, usage, options, cocoer = report["prompt"], report["usage"], report["options"], report["cocoer"]
    differences = len(report["figures"]["differences"]) if report["figures"] else 0
    paid = "" if usage["cost"] is None else f": {usage['cost']:.2f}"
    rows = {
        "date": report["date"],
        "model": f"{report['model']}, at {report['host']}",
        "prompt": f"{prompt['version']}, sha256 {prompt['digest']}",
        "modes": ", ".join(report["modes"]),
        "options": ", ".join(f"{name} {_option(value)}" for name, value in options.items()),
        "CocoER": ", ".join(f"{name} {value}" for name, value in cocoer.items()),
        "tokens of this run": f"{usage['prompt_tokens']:,} sent, {usage['completion_tokens']:,} came back{paid}",
        "answers that were there": f"{usage['answers_kept']:,}, from before or of another mode that sends the same",
    }
    lines = ["## How", "", markdown(("", ""), [(name, plain(value)) for name, value in rows.items()]), ""]
    lines += [line for note in report["notes"] for line in (f"- {plain(note)}", "")]
    if report["figures"]:
        told = DEFINITIONS.format(
            per_person=report["figures"]["labels_per_person"],
            bootstrap=options["bootstrap"],
            intervals=differences * len(FIGURES),
        )
        lines += ["## Definitions", "", told, ""]
    fence = "`" * (1 + max([2, *(len(run) for run in re.findall("`+", prompt["text"]))]))
    return [*lines, "## Prompt", "", f"{fence}markdown", *prompt["text"].rstrip().split("\n"), fence]


def _option(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join("=".join(map(str, pair)) for pair in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
