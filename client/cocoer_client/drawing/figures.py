"""The persons of a result on the canvas: their boxes, the number and colour that each is shown by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from cocoer_client.drawing.badge import badge_size, draw_badge
from cocoer_client.drawing.layout import place_badge
from cocoer_client.drawing.leaders import Rect
from cocoer_client.drawing.shapes import outline

# Okabe and Ito's colours, told apart by the colour-blind too, less those too dark on a dark panel; one per person.
# After seven persons they come again with dashed boxes; the numbers tell apart what colours can't.
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#FFFFFF")
Boxes = Literal["both", "heads", "none"]
"""Which boxes are drawn: of body and head, of the head alone (crowds, where bodies hide each other), of neither."""
BOXES: tuple[Boxes, ...] = ("both", "heads", "none")


@dataclass(frozen=True)
class Figure:
    """A person on the canvas."""

    person: Mapping[str, Any]
    number: int
    """Shown beside the face and in the panel."""
    body: Rect
    head: Rect

    @property
    def colour(self) -> str:
        return colour_of(self.number)

    @property
    def is_dashed(self) -> bool:
        return (self.number - 1) // len(COLOURS) % 2 == 1


def colour_of(number: int) -> str:
    """The colour of a person's number, which counts from 1.

    >>> colour_of(1) == colour_of(8) == COLOURS[0]
    True
    """
    return COLOURS[(number - 1) % len(COLOURS)]


def figures_of(
    persons: Sequence[Mapping[str, Any]], factor: float = 1, numbers: Mapping[int, int] | None = None
) -> list[Figure]:
    """RESULT's persons, in their order.

    Args:
        persons: RESULT's ``persons``.
        factor: the canvas's size, in image sizes.
        numbers: ``id`` -> the number to show, from 1; persons that are not in it, and all without it, show their id.
    """
    return [
        Figure(
            person,
            (numbers or {}).get(person["id"], person["id"]),
            _scaled(person["body_box"], factor),
            _scaled(person["head_box"], factor),
        )
        for person in persons
    ]


def _scaled(box: Sequence[int], factor: float) -> Rect:
    x1, y1, x2, y2 = (value * factor for value in box)
    return x1, y1, x2, y2


def draw_figures(canvas: Image.Image, figures: Sequence[Figure], boxes: Boxes) -> None:
    """The boxes, each with a dark edge that shows it on any ground; those of bodies below those of heads."""
    line = line_width(canvas.size)
    for kind in {"both": ("body", "head"), "heads": ("head",), "none": ()}[boxes]:
        for figure in figures:
            box, dash = getattr(figure, kind), 5 * line if figure.is_dashed else 0
            x1, y1, x2, y2 = (round(value) for value in box)
            outline(canvas, (x1 - 1, y1 - 1, x2 + 1, y2 + 1), 3 * line + 1, line + 2, "black", 0.45)
            outline(canvas, (x1, y1, x2, y2), 3 * line, line, figure.colour, dash=dash)


def line_width(frame: tuple[int, int]) -> int:
    """Of boxes, pixels, on a canvas of this width and height."""
    return max(2, min(frame) // 240)


def draw_numbers(canvas: Image.Image, figures: Sequence[Figure], places: Sequence[Rect], text: int) -> None:
    """The number of each person, where ``place_numbers`` puts it."""
    for figure, (x, y, *_) in zip(figures, places):
        draw_badge(canvas, (round(x), round(y)), str(figure.number), figure.colour, text)


def place_numbers(figures: Sequence[Figure], frame: tuple[int, int], text: int) -> list[Rect]:
    """Where the numbers go: at the heads, over as little as possible of what matters."""
    places: list[Rect] = []
    heads = [figure.head for figure in figures]
    for figure in figures:
        size = badge_size(str(figure.number), text)
        x, y = place_badge(size, figure.head, frame, [*heads, *places])
        places.append((x, y, x + size[0], y + size[1]))
    return places
