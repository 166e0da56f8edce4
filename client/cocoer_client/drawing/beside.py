"""Panels beside the faces: in which order they are placed, and with how many labels, for lines that cross nothing."""

from __future__ import annotations

from collections.abc import Sequence

from cocoer_client.drawing.figures import Figure
from cocoer_client.drawing.layout import Place, Surroundings, place
from cocoer_client.drawing.leaders import Rect
from cocoer_client.drawing.panel import Panel

Placed = list[tuple[Panel, Place]]
"""Of each person, in the persons' order."""


def plan_beside(
    figures: Sequence[Figure],
    labels: Sequence[str],
    frame: tuple[int, int],
    text: int,
    badges: Sequence[Rect],
    details: Sequence[int],
    may_cross: bool,
) -> Placed | None:
    """The first plan, with as many labels as possible, in which all panels find a place.

    Args:
        figures: the persons.
        labels: RESULT's ``labels``.
        frame: width and height of the canvas.
        text: size of the text, pixels.
        badges: where the numbers are.
        details: numbers of labels per panel to try, the one liked most first.
        may_cross: take a plan whose leader lines cross faces, panels or each other where there is none without.

    Returns:
        None where there is no such plan.
    """
    heads, bodies = [figure.head for figure in figures], [figure.body for figure in figures]
    crossing: Placed | None = None
    for maximum in details:
        panels = [Panel(figure, labels, maximum, text, frame[0] - 4) for figure in figures]
        for order in _orders(heads):
            placed = _place_all(panels, order, Surroundings(frame, heads, badges, bodies), text // 2)
            if placed is None:
                break  # too much for this frame in any order
            if not any(found.crossings for _, found in placed):
                return placed
            if crossing is None or _crossings(placed) < _crossings(crossing):
                crossing = placed
    return crossing if may_cross else None


def _orders(heads: Sequence[Rect]) -> list[tuple[int, ...]]:
    """Orders to place panels in: who comes later finds less room. From the left, from the right, from the middle."""
    left = sorted(range(len(heads)), key=lambda index: heads[index][0] + heads[index][2])
    middle = sum(head[0] + head[2] for head in heads) / max(1, len(heads))
    central = sorted(left, key=lambda index: abs(heads[index][0] + heads[index][2] - middle))
    return list(dict.fromkeys(map(tuple, (left, left[::-1], central))))


def _place_all(panels: Sequence[Panel], order: Sequence[int], around: Surroundings, gap: int) -> Placed | None:
    places: dict[int, Place] = {}
    for index in order:
        found = place(panels[index].size, index, around, gap)
        if found is None:
            return None
        places[index] = found
        (x, y), (width, height) = found.corner, panels[index].size
        around.add((x, y, x + width, y + height), found.line, gap)
    return [(panel, places[index]) for index, panel in enumerate(panels)]


def _crossings(placed: Placed) -> int:
    return sum(found.crossings for _, found in placed)
