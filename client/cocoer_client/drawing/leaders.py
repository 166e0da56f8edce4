"""Leader lines, from a panel to the face that it speaks of where somebody could take it for another's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rect = tuple[float, float, float, float]
Point = tuple[float, float]
Line = tuple[Point, Point]
"""From a panel to a face, pixels."""
STRIP = 64
"""Length of the pieces that a slanting line is drawn in, pixels."""


def leaders(panels: Array, face: Rect) -> Array:
    """The line from each panel to a face: between the points where they are nearest, in the middle where several are.

    Args:
        panels: FP64 [N, 4], x1, y1, x2, y2.
        face: the head box.

    Returns:
        FP64 [N, 2, 2]: (x, y) at the panel, (x, y) at the face.

    >>> leaders(np.array([[0.0, 0, 10, 10]]), (20, 2, 30, 6)).tolist()
    [[[10.0, 4.0], [20.0, 4.0]]]
    """
    low, high = panels[:, :2], panels[:, 2:]
    face_low, face_high = np.array(face[:2], dtype=np.float64), np.array(face[2:], dtype=np.float64)
    shared = (np.maximum(low, face_low) + np.minimum(high, face_high)) / 2
    overlapping = (low <= face_high) & (high >= face_low)
    at_panel = np.where(overlapping, shared, np.where(low > face_high, low, high))
    at_face = np.where(overlapping, shared, np.where(low > face_high, face_high, face_low))
    return np.stack([at_panel, at_face], axis=1)


def crossed_rects(lines: Array, rects: Sequence[Rect]) -> Mask:
    """Which lines run through which rectangles (touching an edge is not through).

    Args:
        lines: FP64 [N, 2, 2].
        rects: R of them.

    Returns:
        BOOL [N, R].
    """
    if not len(rects):
        return np.zeros((len(lines), 0), dtype=bool)
    boxes = np.array(rects, dtype=np.float64)[None]
    start, step = lines[:, None, 0], (lines[:, 1] - lines[:, 0])[:, None]
    # Liang and Barsky: between which shares of its length a line is within both pairs of edges.
    step = np.where(step == 0, 1e-12, step)
    one, other = (boxes[..., :2] - start) / step, (boxes[..., 2:] - start) / step
    enters = np.minimum(one, other).max(axis=2).clip(min=0)
    leaves = np.maximum(one, other).min(axis=2).clip(max=1)
    through: Mask = leaves - enters > 1e-9
    return through


def crossed_lines(lines: Array, others: Sequence[Line]) -> Mask:
    """Which lines cross which others: BOOL [N, M].

    >>> crossed_lines(np.array([[[0.0, 0], [9, 9]]]), [((0, 9), (9, 0)), ((20, 0), (20, 9))]).tolist()
    [[True, False]]
    """
    if not len(others):
        return np.zeros((len(lines), 0), dtype=bool)
    a, b = lines[:, None, 0], lines[:, None, 1]
    c, d = np.array(others, dtype=np.float64)[None, :, 0], np.array(others, dtype=np.float64)[None, :, 1]
    apart: Mask = (_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)
    return apart


def _side(a: Array, b: Array, point: Array) -> Array:
    """On which side of the line through a and b a point lies: the sign."""
    step, offset = b - a, point - a
    side: Array = step[..., 0] * offset[..., 1] - step[..., 1] * offset[..., 0]
    return side


def beads(line: Line, size: float) -> list[Rect]:
    """Squares along a line, which keep other panels off it."""
    start, end = np.array(line[0], dtype=np.float64), np.array(line[1], dtype=np.float64)
    count = 1 + int(np.hypot(*(end - start)) // size)
    middles = [start + (end - start) * (index + 0.5) / count for index in range(count)]
    return [(x - size / 2, y - size / 2, x + size / 2, y + size / 2) for x, y in middles]


def draw_leader(canvas: Image.Image, line: Line, width: int, colour: str) -> None:
    """The line, with a dark edge that shows it on any ground, and a dot at the face."""
    for ink, grown, opacity in (("black", 2, 0.45), (colour, 0, 1.0)):
        stroke(canvas, *line, width + grown, ink, opacity)
        stroke(canvas, line[1], line[1], 3 * width + grown, ink, opacity)


def stroke(
    canvas: Image.Image, start: tuple[float, float], end: tuple[float, float], width: float, colour: str, opacity: float
) -> None:
    """A straight line with soft edges; drawn in pieces, since the rectangle around a long one is mostly empty.

    Args:
        canvas: RGB; parts outside it are dropped.
        start, end: points, pixels.
        width: of the line, pixels.
        colour, opacity: of the line.
    """
    a, b = np.array(start, dtype=np.float64), np.array(end, dtype=np.float64)
    axis = int(abs(b[1] - a[1]) > abs(b[0] - a[0]))
    if a[axis] > b[axis]:
        a, b = b, a
    reach = width / 2 + 1
    slope = (b - a)[1 - axis] / max((b - a)[axis], 1e-9)
    cuts = [*np.arange(np.floor(a[axis] - reach), b[axis] + reach, STRIP), np.ceil(b[axis] + reach)]
    for low, high in zip(cuts, cuts[1:]):
        sides = [a[1 - axis] + slope * (min(max(cut, a[axis]), b[axis]) - a[axis]) for cut in (low, high)]
        thick = reach * np.hypot(1, slope) + 1
        near, far = np.floor(min(sides) - thick), np.ceil(max(sides) + thick)
        box = (low, near, high, far) if axis == 0 else (near, low, far, high)
        _stroke_piece(canvas, tuple(map(int, box)), a, b, width, colour, opacity)


def _stroke_piece(
    canvas: Image.Image,
    box: tuple[int, ...],
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    width: float,
    colour: str,
    opacity: float,
) -> None:
    """What of a line lies in a rectangle: full where a pixel's middle is within half the width, soft for a pixel."""
    x1, y1, x2, y2 = box
    points = np.stack(np.meshgrid(np.arange(x1, x2) + 0.5, np.arange(y1, y2) + 0.5), axis=-1)
    along = np.clip((points - a) @ (b - a) / max(float((b - a) @ (b - a)), 1e-9), 0, 1)
    away = np.linalg.norm(points - a - along[..., None] * (b - a), axis=-1)
    mask = np.clip(width / 2 + 0.5 - away, 0, 1) * 255 * opacity
    canvas.paste(colour, (x1, y1), Image.fromarray(mask.round().astype(np.uint8)))
