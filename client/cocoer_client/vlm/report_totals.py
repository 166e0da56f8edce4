"""What became of a run's questions, for the report's table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from cocoer_client.vlm.answers import KINDS
from cocoer_client.vlm.asking import Asked, Subject, lost_in_enhanced, only_in_enhanced
from cocoer_client.vlm.modes import Mode


def totals_of(people: Sequence[tuple[Subject, Sequence[Asked]]], modes: Sequence[Mode]) -> dict[str, Any]:
    """Counts of all persons of a run, those too that the page does not show.

    Args:
        people: each person, with the modes that were asked.
        modes: the table's columns.
    """
    all_asked = [one for _, asked in people for one in asked]
    by_mode = {mode: [one for one in all_asked if one.mode == mode] for mode in modes}
    news = [len(only_in_enhanced(asked)) for _, asked in people]
    losses = [len(lost_in_enhanced(asked)) for _, asked in people]
    paid = [one.usage for one in all_asked if not one.cached]
    return {
        "kinds": {kind: [_of_kind(by_mode[mode])[kind] for mode in modes] for kind in KINDS},
        "mean_labels": [_mean_labels(by_mode[mode]) for mode in modes],
        "kept": [sum(one.cached for one in by_mode[mode]) for mode in modes],
        "new": (sum(news), sum(map(bool, news))),
        "lost": (sum(losses), sum(map(bool, losses))),
        "prompt_tokens": sum(usage.prompt for usage in paid),
        "completion_tokens": sum(usage.completion for usage in paid),
    }


def _of_kind(asked: Sequence[Asked]) -> Counter[str]:
    return Counter(one.answer.kind for one in asked)


def _mean_labels(asked: Sequence[Asked]) -> float | None:
    """Labels of an answer that could be read; None: there is none."""
    read = [len(one.answer.labels) for one in asked if one.answer.is_read]
    return sum(read) / len(read) if read else None
