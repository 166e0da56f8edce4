"""Persons walking through a film, as boxes: two crossings, then a cut. Those behind somebody are not detected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RATE = 25.0
CUT_S = 8.0
END_S = 12.0
WIDTH, HEIGHT = 70.0, 180.0
"""Of a body, pixels, in a film of 640 x 360."""
SHOTS: tuple[dict[str, tuple[float, float, float]], ...] = (
    # Name -> x of the middle at the shot's beginning, its speed in pixels per second, y of the feet. The one whose feet
    # are lower is nearer. a and b cross at 3 s, b and c at 5.7 s.
    {"a": (60, 75, 330), "b": (510, -75, 300), "c": (90, -0.5, 340)},
    {"d": (80, 60, 320), "e": (500, 0, 330)},
)


@dataclass(frozen=True)
class Moment:
    """What a detector sees in one frame."""

    time_s: float
    boxes: list[list[int]]
    """Bodies: x1, y1, x2, y2."""
    names: list[str]
    """Whose they are."""


def walk(step: int = 1, seed: int = 0, missed: float = 0.03) -> list[Moment]:
    """Every ``step``-th frame of the film.

    Args:
        step: 1: all.
        seed: of the detector's noise.
        missed: share of persons that the detector overlooks, beside those that are behind somebody.
    """
    random = np.random.default_rng(seed)
    return [_moment(index / RATE, random, missed) for index in range(0, round(END_S * RATE), step)]


def _moment(time_s: float, random: np.random.Generator, missed: float) -> Moment:
    second = time_s >= CUT_S
    since = time_s - CUT_S * second
    true = {
        name: np.array([x + v * since - WIDTH / 2, feet - HEIGHT, x + v * since + WIDTH / 2, feet])
        for name, (x, v, feet) in SHOTS[second].items()
    }
    boxes, names = [], []
    for name, box in true.items():
        hidden = any(_covered(box, other) > 0.6 for other in true.values() if other[3] > box[3])
        if hidden or random.random() < missed:
            continue
        boxes.append([round(value) for value in box + random.normal(0, 2, 4)])
        names.append(name)
    order = random.permutation(len(names))  # as a detector does: by its score
    return Moment(time_s, [boxes[index] for index in order], [names[index] for index in order])


def _covered(box: np.ndarray, other: np.ndarray) -> float:
    """The share of a box that lies behind another."""
    shared = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    return float(np.prod(np.clip(shared, 0, None)) / np.prod(box[2:] - box[:2]))


def switches(moments: list[Moment], tracks: list[list[int]]) -> int:
    """How often a person's number changes, over all persons.

    Args:
        moments: the film.
        tracks: the numbers given to each moment's boxes.
    """
    current: dict[str, int] = {}
    count = 0
    for moment, given in zip(moments, tracks, strict=True):
        for name, track in zip(moment.names, given, strict=True):
            count += current.get(name, track) != track
            current[name] = track
    return count
