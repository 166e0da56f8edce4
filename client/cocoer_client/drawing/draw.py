"""The annotated image: boxes, numbers, and a panel with labels beside each face.

Sizes follow the image's; small images are enlarged first. A crowd whose panels find no free place beside the faces
gets them in a margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from cocoer_client.drawing.banner import with_banner
from cocoer_client.drawing.layout import Rect, columns, place, place_badge
from cocoer_client.drawing.panel import GROUND, Panel, badge_size, draw_badge
from cocoer_client.drawing.shapes import dash, fill, rounded

MIN_SIDE = 480
"""Images whose shorter side is below this are enlarged by a whole factor."""
# Okabe and Ito's colours, told apart by the colour-blind too, less those too dark on a dark panel; one per person.
# After seven persons they come again with dashed boxes; the numbers tell apart what colours can't.
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#FFFFFF")
MAX_LABELS = 6
BESIDE = (MAX_LABELS, 4, 3)
"""Labels per panel, tried until all panels find a place beside their faces."""
FIXED = (*BESIDE, 2, 1)
"""The same where there may be no margin."""
MAX_BESIDE, MAX_PANELS = 24, 60
"""Persons with a panel beside their face, and with a panel at all; larger crowds get their numbers only."""


@dataclass(frozen=True)
class Figure:
    """A person on the canvas."""

    person: Mapping[str, Any]
    body: Rect
    head: Rect
    colour: str
    dashed: bool


def annotate(
    image: Image.Image, result: Mapping[str, Any], warnings: Sequence[str] = (), fixed_size: bool = False
) -> Image.Image:
    """Draw a result on its image.

    Args:
        image: RGB, upright, of the size in ``result["image"]``.
        result: the RESULT object (``Result.raw``).
        warnings: lines for a banner above the image.
        fixed_size: no margin, so that all frames of a video have one size; persons whose panel finds no place have
            their number only.

    Returns:
        a new image: ``image``, enlarged by a whole factor if it is small, below the banner, with a margin for
        panels to its right or below it if they would cover faces otherwise.
    """
    canvas = _enlarge(image)
    figures = _figures(result["persons"], canvas.width // image.width)
    text = _text_size(canvas)
    badges = _draw_figures(canvas, figures)
    details = () if len(figures) > MAX_BESIDE else FIXED if fixed_size else BESIDE
    placed = _beside(figures, result["labels"], canvas.size, text, badges, details)
    if placed is not None:
        for panel, place_of_it in placed:
            panel.draw(canvas, place_of_it)
    elif not fixed_size and len(figures) <= MAX_PANELS:
        canvas = _with_margin(canvas, figures, result["labels"], text)
    return with_banner(canvas, warnings) if warnings else canvas


def draw_boxes(image: Image.Image, result: Mapping[str, Any]) -> Image.Image:
    """As ``annotate``, boxes and numbers only."""
    canvas = _enlarge(image)
    _draw_figures(canvas, _figures(result["persons"], canvas.width // image.width))
    return canvas


def _text_size(canvas: Image.Image) -> int:
    return max(13, min(canvas.size) // 36)


def _draw_figures(canvas: Image.Image, figures: Sequence[Figure]) -> list[Rect]:
    """Boxes and numbers; where the numbers are."""
    line = max(2, min(canvas.size) // 240)
    for figure in figures:
        for box in (figure.body, figure.head):
            _outline(canvas, box, figure, line)
    badges: list[Rect] = []
    text, heads = _text_size(canvas), [figure.head for figure in figures]
    for figure in figures:
        number = str(figure.person["id"])
        size = badge_size(number, text)
        corner = place_badge(size, figure.head, canvas.size, [*heads, *badges])
        draw_badge(canvas, corner, number, figure.colour, text)
        badges.append((*corner, corner[0] + size[0], corner[1] + size[1]))
    return badges


def _enlarge(image: Image.Image) -> Image.Image:
    """A copy whose shorter side is at least ``MIN_SIDE``, unless its longer side would grow past 4,096."""
    wanted = -(-MIN_SIDE // min(image.size))
    factor = max(1, min(wanted, 4096 // max(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)


def _figures(persons: Sequence[Mapping[str, Any]], factor: int) -> list[Figure]:
    return [
        Figure(
            person,
            _scaled(person["body_box"], factor),
            _scaled(person["head_box"], factor),
            COLOURS[index % len(COLOURS)],
            dashed=index // len(COLOURS) % 2 == 1,
        )
        for index, person in enumerate(persons)
    ]


def _scaled(box: Sequence[int], factor: int) -> Rect:
    x1, y1, x2, y2 = (value * factor for value in box)
    return x1, y1, x2, y2


def _outline(canvas: Image.Image, box: Rect, figure: Figure, line: int) -> None:
    """A box in the person's colour, with a dark edge that shows it on any ground."""
    x1, y1, x2, y2 = (round(value) for value in box)
    for colour, grown, opacity in (("black", 1, 0.45), (figure.colour, 0, 1.0)):
        size = (x2 - x1 + 2 * grown, y2 - y1 + 2 * grown)
        mask = rounded(size, 3 * line + grown, line + 2 * grown)
        if figure.dashed and not grown:
            dash(mask, line, 5 * line)
        fill(canvas, (x1 - grown, y1 - grown), mask, colour, opacity)


def _beside(
    figures: Sequence[Figure],
    labels: Sequence[str],
    frame: tuple[int, int],
    text: int,
    badges: Sequence[Rect],
    details: Sequence[int],
) -> list[tuple[Panel, tuple[int, int]]] | None:
    """Panels with their places beside the faces, with as many labels as let all find one; None where none do."""
    heads, bodies = [figure.head for figure in figures], [figure.body for figure in figures]
    for maximum in details:
        taken: list[Rect] = [*heads, *badges]
        placed = []
        for figure in figures:
            panel = Panel(figure.person, labels, figure.colour, maximum, text, frame[0] - 4)
            corner = place(panel.size, figure.head, frame, taken, bodies, gap=text // 2)
            if corner is None:
                break
            placed.append((panel, corner))
            taken.append((*corner, corner[0] + panel.size[0], corner[1] + panel.size[1]))
        else:
            return placed
    return None


def _with_margin(canvas: Image.Image, figures: Sequence[Figure], labels: Sequence[str], text: int) -> Image.Image:
    """The image with all panels to its right or below it: where, and with how many labels, leaves most to it."""
    plans = [
        _margin(canvas.size, figures, labels, text, maximum, below) for maximum in BESIDE for below in (False, True)
    ]
    # The first with all labels that leaves the image its half.
    plan = next((plan for plan in plans if plan.share >= 0.5), max(plans, key=lambda plan: plan.share))
    whole = Image.new("RGB", plan.size, GROUND)
    whole.paste(canvas, (0, 0))
    for panel, corner in plan.panels:
        panel.draw(whole, corner)
    return whole


@dataclass(frozen=True)
class Margin:
    """Panels beside the image."""

    size: tuple[int, int]
    """Of image and margin."""
    panels: list[tuple[Panel, tuple[int, int]]]
    share: float
    """The image's, of the whole."""


def _margin(
    frame: tuple[int, int], figures: Sequence[Figure], labels: Sequence[str], text: int, maximum: int, below: bool
) -> Margin:
    gap = text // 2
    panels = [Panel(figure.person, labels, figure.colour, maximum, text, 30 * text) for figure in figures]
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
