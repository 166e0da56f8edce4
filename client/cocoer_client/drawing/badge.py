"""A person's number on their colour."""

from __future__ import annotations

from PIL import Image

from cocoer_client.drawing.shapes import fill, font_of, ink_on, rounded, text_width, write


def badge_size(number: str, text: int) -> tuple[int, int]:
    """Width and height of a badge: a circle, wider where the number needs it."""
    side = round(1.5 * text)
    return max(side, round(text_width(number, text)) + round(0.7 * text)), side


def draw_badge(canvas: Image.Image, corner: tuple[int, int], number: str, colour: str, text: int) -> None:
    """The badge, with its upper left at ``corner``."""
    width, height = badge_size(number, text)
    fill(canvas, corner, rounded((width, height), height // 2), colour)
    place = (corner[0] + width / 2, corner[1] + height / 2)
    write(canvas, place, number, font_of(text), ink_on(colour), anchor="mm")
