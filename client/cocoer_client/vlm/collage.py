"""Several levels on one image, side by side with captions, for models that take one image."""

from __future__ import annotations

import bisect
import functools
import itertools
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
        widest: of each picture, at most; a strip stays lower than the row.
    """

    sizes: Mapping[Level, Size]
    height: int
    captions: bool
    widest: int

    @property
    def text(self) -> int:
        """Size of the captions: a line that is read too where a model reduces the image to half."""
        return min(32, max(12, self.height // 14))

    @property
    def top(self) -> int:
        """Pixels above the pictures."""
        return text_height(font_of(self.text)) + self.text // 2 if self.captions else 0

    def picture(self, level: Level) -> Size:
        """As high as the row, or as ``MOST`` and ``widest`` allow."""
        width, height = self.sizes[level]
        return scaled((width, height), min(self.height / height, MOST, self.widest / width))

    def cell(self, level: Level) -> int:
        """Width of a picture or its caption, whichever is wider."""
        caption = round(text_width(level, self.text)) + 2 if self.captions else 0
        return max(self.picture(level)[0], caption)

    @property
    def size(self) -> Size:
        """Of the whole."""
        cells = [self.cell(level) for level in self.sizes]
        return sum(cells) + gap_of(self.height) * (len(cells) - 1), self.top + self.height


def layout_of(sizes: Mapping[Level, Size], longest_side: int) -> Layout:
    """The highest row that fits, no higher than the highest picture.

    Strips that would leave nothing of the others are kept short, and captions are left out, where that is needed.
    """
    highest = max(height for _, height in sizes.values())
    gaps = (len(sizes) - 1) * gap_of(longest_side)
    share = (longest_side - gaps) // len(sizes)
    for captions, widest in itertools.product((True, False), (longest_side, share)):
        make = functools.partial(Layout, sizes, captions=captions, widest=widest)
        rows = range(1, highest + 1)
        fitting = bisect.bisect_right(rows, longest_side, key=lambda height: max(make(height).size))
        if fitting >= min(MIN_SIDE, highest):
            break
    layout = make(rows[max(0, fitting - 1)])
    # No white above and below where all of them stay lower.
    return make(max(layout.picture(level)[1] for level in sizes))


def gap_of(height: int) -> int:
    """Pixels between two pictures of a row."""
    return max(2, height // 40)


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
        x += cell + gap_of(layout.height)
    return canvas
