"""The annotated image: boxes, numbers, and a panel with labels beside each face.

Sizes follow the image's; small images are enlarged first. A crowd whose panels find no free place beside the faces
gets them in a margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from cocoer_client.drawing.banner import with_banner
from cocoer_client.drawing.beside import plan_beside
from cocoer_client.drawing.figures import (
    Boxes,
    draw_figures,
    draw_numbers,
    figures_of,
    line_width,
    place_numbers,
)
from cocoer_client.drawing.leaders import draw_leader
from cocoer_client.drawing.margin import Margin, plan_margin
from cocoer_client.drawing.panel import GROUND

MIN_SIDE = 480
"""Images whose shorter side is below this are enlarged by a whole factor."""
MAX_LABELS = 6
BESIDE = (MAX_LABELS, 4, 3)
"""Labels per panel, tried until all panels find a place beside their faces."""
FIXED = (*BESIDE, 2, 1)
"""The same where there may be no margin."""
MAX_BESIDE, MAX_PANELS = 24, 60
"""Persons with a panel beside their face, and with a panel at all; larger crowds get their numbers only."""


def annotate(
    image: Image.Image,
    result: Mapping[str, Any],
    warnings: Sequence[str] = (),
    fixed_size: bool = False,
    *,
    numbers: Mapping[int, int] | None = None,
    boxes: Boxes = "both",
    in_place: bool = False,
) -> Image.Image:
    """Draw a result on its image.

    Args:
        image: RGB, upright, of the size in ``result["image"]``.
        result: the RESULT object (``Result.raw``).
        warnings: lines for a banner above the image.
        fixed_size: no margin, so that all frames of a video have one size; persons whose panel finds no place have
            their number only.
        numbers: a person's ``id`` -> the number to show, from 1, which decides the colour too, so that somebody keeps
            both from frame to frame. Without it, and for ids that are not in it, the id is shown.
        boxes: which are drawn.
        in_place: draw on ``image`` itself where the result has its size, which saves a copy.

    Returns:
        a new image, unless ``in_place``: ``image``, enlarged by a whole factor if it is small, below the banner, with a
        margin for panels to its right or below it if they would cover faces otherwise.
    """
    factor = enlargement(image.size)
    frame = (image.width * factor, image.height * factor)
    figures, text = figures_of(result["persons"], factor, numbers), max(13, min(frame) // 36)
    badges = place_numbers(figures, frame, text)
    details = () if len(figures) > MAX_BESIDE else FIXED if fixed_size else BESIDE
    placed, margin = plan_beside(figures, result["labels"], frame, text, badges, details, may_cross=fixed_size), None
    if placed is None and not fixed_size and len(figures) <= MAX_PANELS:
        margin = plan_margin(frame, figures, result["labels"], text, BESIDE)
    canvas = _canvas(image, factor, margin, in_place)
    draw_figures(canvas, figures, boxes)
    for figure, (_, where) in zip(figures, placed or ()):
        if where.line is not None:
            draw_leader(canvas, where.line, line_width(frame), figure.colour)
    draw_numbers(canvas, figures, badges, text)
    for panel, where in placed or ():
        panel.draw(canvas, where.corner)
    for panel, corner in margin.panels if margin else ():
        panel.draw(canvas, corner)
    return with_banner(canvas, warnings) if warnings else canvas


def draw_boxes(image: Image.Image, result: Mapping[str, Any], scale: float = 1.0, boxes: Boxes = "both") -> Image.Image:
    """As ``annotate``, boxes and numbers only.

    Args:
        image: RGB, upright; of the size in ``result["image"]`` times ``scale``. It is drawn on.
        result: the RESULT object.
        scale: of the image.
        boxes: which are drawn.
    """
    factor = enlargement(image.size)
    canvas = _canvas(image, factor, None, in_place=True)
    figures, text = figures_of(result["persons"], factor * scale), max(13, min(canvas.size) // 36)
    draw_figures(canvas, figures, boxes)
    draw_numbers(canvas, figures, place_numbers(figures, canvas.size, text), text)
    return canvas


def enlargement(size: tuple[int, int]) -> int:
    """The factor that makes the shorter side at least ``MIN_SIDE``, unless the longer one would grow past 4,096.

    >>> enlargement((300, 200)), enlargement((4000, 3000)), enlargement((2000, 100))
    (3, 1, 2)
    """
    return max(1, min(-(-MIN_SIDE // min(size)), 4096 // max(size)))


def _canvas(image: Image.Image, factor: int, margin: Margin | None, in_place: bool) -> Image.Image:
    """The image to draw on, enlarged, and with room for the margin."""
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)
    elif not (in_place or margin):
        return image.copy()
    if margin is None:
        return image
    whole = image.crop((0, 0, *margin.size))
    whole.paste(GROUND, (image.width, 0, *whole.size))
    whole.paste(GROUND, (0, image.height, *whole.size))
    return whole
