"""A margin beside the image with the panels of a crowd: those that find no free place beside their faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cocoer_client.drawing.figures import Figure
from cocoer_client.drawing.layout import columns
from cocoer_client.drawing.panel import Panel


@dataclass(frozen=True)
class Margin:
    """Panels beside the image."""

    size: tuple[int, int]
    """Of image and margin, pixels."""
    panels: list[tuple[Panel, tuple[int, int]]]
    share: float
    """The image's, of the whole."""


def plan_margin(
    frame: tuple[int, int], figures: Sequence[Figure], labels: Sequence[str], text: int, details: Sequence[int]
) -> Margin:
    """To the right of the image or below it: where, and with how many labels, leaves most to the image.

    The panels come in the order in which the faces stand in the image, from left to right.

    Args:
        frame: the image's width and height.
        figures: the persons.
        labels: RESULT's ``labels``.
        text: size of the text, pixels.
        details: numbers of labels per panel to try, the one liked most first.
    """
    ordered = sorted(figures, key=lambda figure: figure.head[0] + figure.head[2])
    lists = [[Panel(figure, labels, maximum, text, 30 * text) for figure in ordered] for maximum in details]
    plans = [_margin(frame, panels, text, below) for panels in lists for below in (False, True)]
    # The first with all labels that leaves the image its half.
    return next((plan for plan in plans if plan.share >= 0.5), max(plans, key=lambda plan: plan.share))


def _margin(frame: tuple[int, int], panels: Sequence[Panel], text: int, below: bool) -> Margin:
    gap = text // 2
    # All of one width: a table reads better than a heap.
    sizes = [(max(panel.size[0] for panel in panels), panel.size[1]) for panel in panels]
    height = frame[1]
    if below:
        height = 2 * gap + max(size[1] for size in sizes)
        while columns(sizes, height, gap)[1][0] > max(frame[0], sizes[0][0] + 2 * gap):
            height += text
    corners, needed = columns(sizes, height, gap)
    x, y = (0, frame[1]) if below else (frame[0], 0)
    size = max(frame[0], x + needed[0]), max(frame[1], y + needed[1])
    placed = [(panel, (x + corner[0], y + corner[1])) for panel, corner in zip(panels, corners)]
    return Margin(size, placed, frame[0] * frame[1] / (size[0] * size[1]))
