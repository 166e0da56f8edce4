"""What is drawn of each person: the strongest labels' lines and bands, and the exclusion order. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cocoer_client.protocol import LEVELS
from cocoer_client.timeline.collect import Bin, Someone, Timeline

MAX_LABELS = 4
"""Of a person."""
COLOURS = 8
"""Of labels."""
MAX_PERSONS = 40
"""With a row; those who are seen longest."""
MIN_FRAMES = 3
"""Of a person with a row, where somebody has so many: fewer are mostly detections that were none."""
MAX_GAP = 1.0
"""Seconds without the person that a line is drawn across; more, where frames lie farther apart."""
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
PLACES = ("excluded first", "second", "stays")


@dataclass(frozen=True)
class Point:
    """One span of time, mostly one frame."""

    time_s: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """A label's probability over time."""

    label: str
    colour: int
    """Its number among the colours of labels; a label has the same with everybody."""
    pieces: list[list[Point]]
    """Between the pieces the person is not seen."""


@dataclass(frozen=True)
class Span:
    """A level that holds a place in the exclusion order for a while."""

    level: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Row:
    """One person."""

    number: int
    first_s: float
    last_s: float
    frames: int
    face: Image.Image | None
    lines: list[Line]
    order: list[list[Span]]
    """For each place of the exclusion order, what holds it."""


def rows_of(timeline: Timeline) -> list[Row]:
    """The persons, in the order in which they come in, without those of a moment; of more than ``MAX_PERSONS``, those
    seen in most frames."""
    longest = sorted(timeline.persons.values(), key=lambda someone: -someone.frames)[:MAX_PERSONS]
    longest = [someone for someone in longest if someone.frames >= min(MIN_FRAMES, longest[0].frames)]
    persons = sorted(longest, key=lambda someone: (someone.first_s, someone.number))
    strongest = {someone.number: _strongest(someone) for someone in persons}
    colours = colours_of(list(strongest.values()))
    gap, width = gap_of(persons, timeline.width), timeline.width
    return [_row(someone, timeline.labels, strongest[someone.number], colours, gap, width) for someone in persons]


def colours_of(shown: Sequence[Sequence[int]]) -> dict[int, int]:
    """A colour for each label, the same with everybody; labels of one person have different ones where that can be.

    Args:
        shown: each person's labels.

    >>> colours_of([[4, 5], [5, 6]])
    {5: 0, 4: 1, 6: 2}
    """
    used = Counter(label for labels in shown for label in labels)
    colours: dict[int, int] = {}
    for label in sorted(used, key=lambda label: (-used[label], label)):
        beside = Counter(colours[other] for labels in shown if label in labels for other in labels if other in colours)
        given = Counter(colours.values())
        colours[label] = min(range(COLOURS), key=lambda colour: (beside[colour], given[colour], colour))
    return colours


def _strongest(someone: Someone) -> list[int]:
    """The labels with the highest mean probability."""
    mean = sum((one.total for one in someone.bins.values()), np.zeros(1)) / someone.frames
    return [int(index) for index in np.argsort(-mean, kind="stable")[:MAX_LABELS]]


def gap_of(persons: Iterable[Someone], width: float) -> float:
    """Seconds that a line crosses: twice what usually lies between two of a person's points, if that is more."""
    steps: list[float] = []
    for someone in persons:
        steps += np.diff(sorted(one.time / one.count for one in someone.bins.values())).tolist()
    return max(MAX_GAP, 2.5 * float(np.median(steps)) if steps else 0.0, 2 * width)


def _row(
    someone: Someone, labels: Sequence[str], chosen: Sequence[int], colours: dict[int, int], gap: float, width: float
) -> Row:
    bins = [someone.bins[at] for at in sorted(someone.bins)]
    lines = [Line(labels[index], colours[index], _pieces(bins, index, gap)) for index in chosen]
    order = [_spans(bins, place, gap, width) for place in range(len(PLACES))]
    return Row(someone.number, someone.first_s, someone.last_s, someone.frames, someone.face, lines, order)


def _pieces(bins: Sequence[Bin], index: int, gap: float) -> list[list[Point]]:
    pieces: list[list[Point]] = []
    for one in bins:
        point = Point(one.time / one.count, one.total[index] / one.count, float(one.low[index]), float(one.high[index]))
        if not pieces or point.time_s - pieces[-1][-1].time_s > gap:
            pieces.append([])
        pieces[-1].append(point)
    return pieces


def _spans(bins: Sequence[Bin], place: int, gap: float, width: float) -> list[Span]:
    """Who holds a place, by the majority of each bin's frames; each until the next is seen."""
    spans: list[Span] = []
    for number, one in enumerate(bins):
        start = one.time / one.count
        following = bins[number + 1] if number + 1 < len(bins) else None
        end = following.time / following.count if following is not None else start + width
        end = end if end - start <= gap else start + width
        level = LEVELS[int(one.order[place].argmax())]
        if spans and spans[-1].level == level and start - spans[-1].end_s < 1e-6:
            spans[-1] = Span(level, spans[-1].start_s, end)
        else:
            spans.append(Span(level, start, end))
    return spans


def ticks(end_s: float, most: int = 10) -> list[float]:
    """Times on the axis.

    >>> ticks(120), ticks(0.5)
    ([0, 15, 30, 45, 60, 75, 90, 105, 120], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    """
    step = next((step for step in STEPS if end_s / step <= most), STEPS[-1])
    return [round(number * step, 3) for number in range(int(end_s / step + 1e-9) + 1)]


def clock(time_s: float, step: float = 1.0) -> str:
    """A time as players show it.

    >>> clock(75), clock(3725), clock(1.25, 0.1)
    ('1:15', '1:02:05', '0:01.2')
    """
    tenths = f".{int(time_s * 10 + 1e-6) % 10}" if step < 1 else ""
    seconds = int(time_s + 1e-6)
    hours = f"{seconds // 3600}:{seconds // 60 % 60:02}" if seconds >= 3600 else f"{seconds // 60}"
    return f"{hours}:{seconds % 60:02}{tenths}"
