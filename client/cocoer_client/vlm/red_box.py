"""The red box that tells which person is meant."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

RED, HALO = (255, 0, 0), (255, 255, 255)


def framed(picture: Image.Image, box: Sequence[int]) -> Image.Image:
    """A copy with a red line around a box, in a white hairline, so that it shows on red too.

    The line lies outside of the box. Where the image ends there, it lies along the border, on the box's own pixels:
    a box that is open on one side could be taken for something of the photograph.

    Args:
        picture: RGB.
        box: x1, y1, x2, y2 in pixels, inside the picture.
    """
    canvas = picture.copy()
    width = line_width(canvas.size)
    x1, y1 = max(0, box[0] - width), max(0, box[1] - width)
    x2, y2 = min(canvas.width, box[2] + width) - 1, min(canvas.height, box[3] + width) - 1
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=HALO)
    pen.rectangle((x1, y1, x2, y2), outline=RED, width=width)
    return canvas


def line_width(size: tuple[int, int]) -> int:
    """Of the red line, pixels: it is seen too where a model reduces the image to a third.

    >>> line_width((1024, 768)), line_width((224, 150))
    (6, 3)
    """
    return max(3, min(size) // 128)
