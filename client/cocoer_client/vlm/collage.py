"""Several levels on one image, side by side with captions, for models that take one image."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PIL import Image

from cocoer_client.drawing.shapes import font_of, text_height, text_width, write
from cocoer_client.protocol import Level
from cocoer_client.vlm.scaling import MIN_SIDE, Size, scaled

BACKGROUND, INK = "white", "black"
MOST = 2
"""Times that a picture is enlarged for the sake of equal heights, at most: small heads have been enlarged before."""


@dataclass(frozen=True)
class Layout:
    """Where things are.

    Args:
        sizes: of the pictures, each at its own size.
        height: of the row that they share.
        captions: whether each has its level's name above it.
    """

    sizes: Mapping[Level, Size]
    height: int
    captions: bool

    @property
    def gap(self) -> int:
        """Pixels between two of them."""
        return max(2, self.height // 40)

    @property
    def text(self) -> int:
        """Size of the captions: a line that is read too where a model reduces the image to half."""
        return min(32, max(12, self.height // 14))

    @property
    def top(self) -> int:
        """Pixels above the pictures."""
        return text_height(font_of(self.text)) + self.text // 2 if self.captions else 0

    def picture(self, level: Level) -> Size:
        """As high as the row, or as much of it as ``MOST`` allows."""
        size = self.sizes[level]
        return scaled(size, min(self.height / size[1], MOST))

    def cell(self, level: Level) -> int:
        """Width of a picture or its caption, whichever is wider."""
        caption = round(text_width(level, self.text)) + 2 if self.captions else 0
        return max(self.picture(level)[0], caption)

    @property
    def size(self) -> Size:
        """Of the whole."""
        cells = [self.cell(level) for level in self.sizes]
        return sum(cells) + self.gap * (len(cells) - 1), self.top + self.height


def layout_of(sizes: Mapping[Level, Size], longest_side: int) -> Layout:
    """The highest row that fits: no higher than the highest picture, and with captions where they leave room."""
    highest = max(height for _, height in sizes.values())

    def fitting(captions: bool) -> Layout:
        heights = range(1, highest + 1)
        count = bisect.bisect_right(heights, longest_side, key=lambda one: max(Layout(sizes, one, captions).size))
        return Layout(sizes, heights[max(0, count - 1)], captions)

    told = fitting(captions=True)
    fits = max(told.size) <= longest_side and told.height >= min(MIN_SIDE, highest)
    return told if fits else fitting(captions=False)


def side_by_side(
    sizes: Mapping[Level, Size], at_size: Callable[[Level, Size], Image.Image], longest_side: int
) -> Image.Image:
    """The pictures in a row, in the order of ``sizes``.

    Args:
        sizes: each picture's own, pixels.
        at_size: makes a picture of a size.
        longest_side: of the whole, at most.
    """
    layout = layout_of(sizes, longest_side)
    canvas, x = Image.new("RGB", layout.size, BACKGROUND), 0
    for level in sizes:
        picture, cell = at_size(level, layout.picture(level)), layout.cell(level)
        canvas.paste(picture, (x + (cell - picture.width) // 2, layout.top + (layout.height - picture.height) // 2))
        if layout.captions:
            write(canvas, (x + cell / 2, layout.top / 2), level, font_of(layout.text), INK, anchor="mm")
        x += cell + layout.gap
    return canvas
