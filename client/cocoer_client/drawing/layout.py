"""Where panels and badges go: nothing over a face or another panel, nothing outside the frame. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Rect = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""
GRID = 60
"""Places tried along each side of the frame."""
FAR = 0.45
"""A panel further from its face than this share of the frame's diagonal tells nobody whose it is."""


def overlaps(corners: Array, size: tuple[int, int], rects: Sequence[Rect]) -> Array:
    """Area, in pixels, that a rectangle of ``size`` at each corner shares with the rectangles together.

    Args:
        corners: FP64 [N, 2], upper left corners.
        size: width and height.
        rects: may overlap each other; then counted more than once.

    Returns:
        FP64 [N].
    """
    if not rects:
        return np.zeros(len(corners))
    boxes = np.array(rects, dtype=np.float64)[None]
    near, far = corners[:, None], corners[:, None] + np.array(size, dtype=np.float64)
    shared = np.minimum(far, boxes[..., 2:]) - np.maximum(near, boxes[..., :2])
    areas: Array = np.prod(np.clip(shared, 0, None), axis=2).sum(axis=1)
    return areas


def distances(corners: Array, size: tuple[int, int], rect: Rect) -> Array:
    """Gap between a rectangle of ``size`` at each corner and ``rect``; 0 where they touch: FP64 [N]."""
    low = np.array(rect[:2]) - (corners + np.array(size))
    high = corners - np.array(rect[2:])
    gaps: Array = np.hypot(*np.clip(np.maximum(low, high), 0, None).T)
    return gaps


def _corners(size: tuple[int, int], face: Rect, frame: tuple[int, int], gap: int) -> Array:
    """Places to try, all inside the frame: around the face, and a grid."""
    width, height = size
    x1, y1, x2, y2 = face
    xs = [x1 - gap - width, x1, (x1 + x2 - width) / 2, x2 - width, x2 + gap]
    ys = [y1 - gap - height, y1, (y1 + y2 - height) / 2, y2 - height, y2 + gap]
    xs += list(np.linspace(0, frame[0] - width, GRID))
    ys += list(np.linspace(0, frame[1] - height, GRID))
    corners = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    inside: Array = np.round(np.clip(corners, 0, [frame[0] - width, frame[1] - height]))
    return inside


def place(
    size: tuple[int, int],
    face: Rect,
    frame: tuple[int, int],
    taken: Sequence[Rect],
    spared: Sequence[Rect] = (),
    gap: int = 6,
) -> tuple[int, int] | None:
    """The corner of a panel near its face that covers nothing of what is taken, and little of what should be spared.

    Args:
        size: the panel's width and height.
        face: the head box it belongs to.
        frame: width and height of the canvas.
        taken: faces, badges, other panels.
        spared: bodies.
        gap: between face and panel.

    Returns:
        the upper left corner; None where there is no such place.

    >>> place((30, 20), (40, 40, 60, 60), (100, 100), [(40, 40, 60, 60)])
    (66, 40)
    >>> place((30, 20), (0, 0, 100, 100), (100, 100), [(0, 0, 100, 100)]) is None
    True
    """
    if size[0] > frame[0] or size[1] > frame[1]:
        return None
    corners = _corners(size, face, frame, gap)
    away = distances(corners, size, face)
    diagonal = float(np.hypot(*frame))
    free = (overlaps(corners, size, taken) == 0) & (away <= FAR * diagonal)
    if not free.any():
        return None
    # Near first; then not over bodies; then with the panel's top at the face's, to its right.
    cost = away / diagonal + 0.4 * overlaps(corners, size, spared) / (size[0] * size[1])
    cost += 1e-3 * np.abs(corners[:, 1] - face[1]) / diagonal + 1e-4 * (corners[:, 0] < face[0])
    return _as_corner(corners[np.argmin(np.where(free, cost, np.inf))])


def place_badge(size: tuple[int, int], head: Rect, frame: tuple[int, int], taken: Sequence[Rect]) -> tuple[int, int]:
    """The corner of a badge at a head box, where it covers least of what is taken; inside the frame."""
    width, height = size
    x1, y1, x2, y2 = head
    around = [(x, y) for y in (y1 - height, y2, y1, y2 - height) for x in (x1, x2 - width, x1 - width, x2)]
    limits = [max(0, frame[0] - width), max(0, frame[1] - height)]
    corners = np.clip(np.array(around, dtype=np.float64), 0, limits).round()
    return _as_corner(corners[np.argmin(overlaps(corners, size, [head, *taken]))])


def _as_corner(values: Array) -> tuple[int, int]:
    return int(values[0]), int(values[1])


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
