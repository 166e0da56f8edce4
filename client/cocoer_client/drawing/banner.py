"""Warnings above an image."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from cocoer_client.drawing.shapes import font_of, shorten, text_height, write

WARNING_COLOUR = "#B00020"


def with_banner(canvas: Image.Image, warnings: Sequence[str]) -> Image.Image:
    """Warnings above the image, so that they hide nothing of it, as large as the width allows."""
    size = max(10, min(canvas.size) // 26)
    while size > 7 and max(font_of(size).getlength(text) for text in warnings) > canvas.width - 12:
        size -= 1
    font = font_of(size)
    step = round(text_height(font) * 1.35)
    height = step * len(warnings) + size // 2
    whole = canvas.crop((0, -height, *canvas.size))
    whole.paste(WARNING_COLOUR, (0, 0, canvas.width, height))
    for index, text in enumerate(warnings):
        place_of_it = (6, size / 4 + (index + 0.5) * step)
        write(whole, place_of_it, shorten(text, font, canvas.width - 12), font, "white")
    return whole
