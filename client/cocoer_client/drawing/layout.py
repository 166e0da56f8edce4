"""Where panels and badges go: nothing over a face or another panel, nothing outside the frame. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cocoer_client.drawing.leaders import Array, Line, Mask, Rect, beads, crossed_lines, crossed_rects, leaders

GRID = 60
"""Places tried along each side of the frame."""
FAR = 0.45
"""A panel further from its face than this share of the frame's diagonal tells nobody whose it is."""
LEADER = 0.03
"""What it costs to need a leader line, as a share of the diagonal."""
LOOKED_AT = 400
"""Of the free places, so many of the best are looked at for what the leader line would cross."""


@dataclass
class Surroundings:
    """What is on the canvas already."""

    frame: tuple[int, int]
    """Its width and height."""
    heads: Sequence[Rect]
    badges: Sequence[Rect] = ()
    """The numbers, as many as heads; or none."""
    spared: Sequence[Rect] = ()
    """Bodies, which a panel should not cover."""
    taken: list[Rect] = field(default_factory=list)
    """Beside heads and numbers, what no panel may cover: panels, their leader lines."""
    lines: list[Line] = field(default_factory=list)
    """The leader lines."""

    def add(self, panel: Rect, line: Line | None, gap: int) -> None:
        """A panel has its place."""
        self.taken.append(panel)
        if line is not None:
            self.lines.append(line)
            self.taken += beads(line, gap)


@dataclass(frozen=True)
class Place:
    """Where a panel goes."""

    corner: tuple[int, int]
    line: Line | None
    """Its leader line, where it does not speak for itself whose it is."""
    crossings: int = 0
    """Faces, numbers, panels and other lines that the line runs through."""


def place(size: tuple[int, int], index: int, around: Surroundings, gap: int = 6) -> Place | None:
    """A place for a panel near its face that covers nothing of what is taken, and little of what should be spared.

    A panel that does not stand right at its own face, or stands nearer to another one, gets a leader line; places
    whose line crosses faces, numbers, panels or other lines are taken last.

    Args:
        size: the panel's width and height.
        index: of the face it belongs to, in ``around.heads``.
        around: what is there.
        gap: between face and panel.

    Returns:
        None where there is no such place.

    >>> place((30, 20), 0, Surroundings((100, 100), [(40, 40, 60, 60)]))
    Place(corner=(40, 20), line=None, crossings=0)
    >>> place((30, 20), 0, Surroundings((100, 100), [(0, 0, 100, 100)])) is None
    True
    """
    frame, face = around.frame, around.heads[index]
    if size[0] > frame[0] or size[1] > frame[1]:
        return None
    xs, ys = _grid(size, face, frame, gap)
    away = np.hypot(_gaps(ys, size[1], face[1], face[3])[:, None], _gaps(xs, size[0], face[0], face[2])[None])
    diagonal = float(np.hypot(*frame))
    free = (overlaps(xs, ys, size, [*around.heads, *around.badges, *around.taken]) == 0) & (away <= FAR * diagonal)
    if not free.any():
        return None
    # Near first; then not over bodies; then with the panel's top at the face's, to its right.
    cost = away / diagonal + 0.4 * overlaps(xs, ys, size, around.spared) / (size[0] * size[1])
    cost = cost + (1e-3 * np.abs(ys - face[1]) / diagonal)[:, None] + (1e-4 * (xs < face[0]))[None]
    best = np.argsort(np.where(free, cost, np.inf), axis=None, kind="stable")[: min(LOOKED_AT, int(free.sum()))]
    corners = np.stack([xs[best % len(xs)], ys[best // len(xs)]], axis=1)
    panels = np.concatenate([corners, corners + np.array(size)], axis=1)
    lines, needed = leaders(panels, face), _needs_leader(panels, index, around, gap)
    crossings = np.where(needed, _crossings(lines, index, around), 0)
    chosen = int(np.argmin(cost.ravel()[best] + LEADER * needed + crossings))
    (x1, y1), (x2, y2) = lines[chosen].tolist()
    corner = (int(corners[chosen, 0]), int(corners[chosen, 1]))
    return Place(corner, ((x1, y1), (x2, y2)) if needed[chosen] else None, int(crossings[chosen]))


def _grid(size: tuple[int, int], face: Rect, frame: tuple[int, int], gap: int) -> tuple[Array, Array]:
    """Left and upper edges to try, each with each, all inside the frame: around the face, and a grid."""
    edges = []
    for axis in (0, 1):
        low, high, side, room = face[axis], face[axis + 2], size[axis], frame[axis] - size[axis]
        around = [low - gap - side, low, (low + high - side) / 2, high - side, high + gap]
        edges.append(np.round(np.clip([*around, *np.linspace(0, room, GRID)], 0, room)))
    return edges[0], edges[1]


def _gaps(starts: Array, side: int, low: float, high: float) -> Array:
    """Along one axis, the gap between intervals of length ``side`` and the interval from low to high; 0: none."""
    gaps: Array = np.clip(np.maximum(low - starts - side, starts - high), 0, None)
    return gaps


def _needs_leader(panels: Array, index: int, around: Surroundings, gap: int) -> Mask:
    """Whether a panel is not right at its face or number, or about as near to another face: BOOL [N]."""
    away = _away(panels, around.heads)
    own = away[:, index]
    if around.badges:
        own = np.minimum(own, _away(panels, [around.badges[index]])[:, 0])
    nearest_other = np.delete(away, index, axis=1).min(axis=1, initial=np.inf)
    needed: Mask = (own > 1.5 * gap) | (nearest_other < own + gap)
    return needed


def _away(panels: Array, rects: Sequence[Rect]) -> Array:
    """The gap between each panel and each rectangle; 0 where they touch: FP64 [N, R]."""
    boxes = np.array(rects, dtype=np.float64)[None]
    apart = np.maximum(boxes[..., :2] - panels[:, None, 2:], panels[:, None, :2] - boxes[..., 2:]).clip(min=0)
    away: Array = np.hypot(apart[..., 0], apart[..., 1])
    return away


def _crossings(lines: Array, index: int, around: Surroundings) -> Array:
    """Lines, faces of others, numbers and panels that each leader line runs through: FP64 [N]."""
    others = [rect for rects in (around.heads, around.badges) for other, rect in enumerate(rects) if other != index]
    rects = crossed_rects(lines, [*others, *around.taken]).sum(axis=1)
    crossings: Array = rects + crossed_lines(lines, around.lines).sum(axis=1).astype(np.float64)
    return crossings


def overlaps(xs: Array, ys: Array, size: tuple[int, int], rects: Sequence[Rect]) -> Array:
    """Area, in pixels, that a rectangle of ``size`` at each of a grid's corners shares with the rectangles together.

    Args:
        xs: FP64 [W], left edges.
        ys: FP64 [H], upper edges.
        size: width and height.
        rects: may overlap each other; then counted more than once.

    Returns:
        FP64 [H, W].
    """
    if not rects:
        return np.zeros((len(ys), len(xs)))
    boxes = np.array(rects, dtype=np.float64)
    # What two rectangles share is a product of widths and heights, so that all of it is one product of matrices.
    wide, tall = (
        np.clip(
            np.minimum(starts[:, None] + side, boxes[:, axis + 2]) - np.maximum(starts[:, None], boxes[:, axis]),
            0,
            None,
        )
        for axis, starts, side in ((0, xs, size[0]), (1, ys, size[1]))
    )
    areas: Array = tall @ wide.T
    return areas


def place_badge(size: tuple[int, int], head: Rect, frame: tuple[int, int], taken: Sequence[Rect]) -> tuple[int, int]:
    """The corner of a badge at a head box, where it covers least of what is taken; inside the frame."""
    width, height = size
    x1, y1, x2, y2 = head
    # Above, below, inside the upper edge, inside the lower; at each, from left to right.
    xs = np.clip([x1, x2 - width, x1 - width, x2], 0, max(0, frame[0] - width)).round()
    ys = np.clip([y1 - height, y2, y1, y2 - height], 0, max(0, frame[1] - height)).round()
    row, column = divmod(int(np.argmin(overlaps(xs, ys, size, [head, *taken]))), 4)
    return int(xs[column]), int(ys[row])


def columns(sizes: Sequence[tuple[int, int]], height: int, gap: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Rectangles stacked into columns no taller than ``height`` (a taller rectangle has a column of its own).

    Returns:
        their corners, and the width and height of all together, with ``gap`` around each.

    >>> columns([(20, 30), (10, 30), (20, 30)], height=80, gap=5)
    ([(5, 5), (5, 40), (30, 5)], (55, 75))
    """
    corners, x, y, max_width, max_height = [], gap, gap, 0, 0
    for width, tall in sizes:
        if y > gap and y + tall + gap > height:
            x, y, max_width = x + max_width + gap, gap, 0
        corners.append((x, y))
        y, max_width = y + tall + gap, max(max_width, width)
        max_height = max(max_height, y)
    return corners, (x + max_width + gap, max_height)
