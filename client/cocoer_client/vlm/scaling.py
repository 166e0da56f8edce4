"""How large an image is sent, and its pixels at that size."""

from __future__ import annotations

import math

from PIL import Image

from cocoer_client.protocol import CROP_SIDE

MIN_SIDE = 32
"""Pixels that each side has at least. Qwen's models take an image apart into squares of 28 or 32 pixels; what is
narrower is refused by their older preprocessors, and ends the process of some servers."""
MAX_ASPECT = 100
"""Times that an image is as long as wide, at most: the same preprocessors refuse more than 200."""
GAP = 3
"""An image is reduced by whole numbers first, to no less than this many times its size at last, which is fast."""
GREY = (128, 128, 128)
"""What is put beside an image that is too narrow: the mean of all colours, which tells nothing."""

Size = tuple[int, int]
Box = tuple[int, int, int, int]


def sent_size(size: Size, longest_side: int) -> Size:
    """The size at which an image is sent, its aspect kept.

    What is larger than ``longest_side`` is reduced. What is smaller stays, but for small crops, which are enlarged:
    the longer side to the 224 pixels in which the network itself sees each level, since a model that takes images apart
    into squares makes too few of a small one; the shorter side to ``MIN_SIDE``.

    >>> sent_size((4000, 3000), 1024), sent_size((640, 480), 1024)
    ((1024, 768), (640, 480))
    >>> sent_size((8, 8), 1024), sent_size((10, 200), 1024)
    ((224, 224), (32, 640))
    """
    least = max(1.0, CROP_SIDE / max(size), MIN_SIDE / min(size))
    scale = min(least, longest_side / max(size))
    return scaled(size, scale)


def scaled(size: Size, scale: float) -> Size:
    """A size times a number, in whole pixels; none vanishes.

    >>> scaled((1000, 2), 0.1)
    (100, 1)
    """
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resampled(image: Image.Image, box: Box, size: Size) -> Image.Image:
    """A part of an image at another size: an image of its own, in which no pixel from outside of the box has a share.

    The same pixels as ``image.crop(box).resize(size, reducing_gap=GAP)``, without a copy of a large part.

    Args:
        image: RGB.
        box: x1, y1, x2, y2 in pixels, inside the image.
        size: width and height.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    across, down = (max(1, int(old / new / GAP)) for old, new in zip((width, height), size))
    if across > 1 or down > 1:
        part = image.reduce((across, down), box)
    else:
        part = image if box == (0, 0, *image.size) else image.crop(box)
    return part.resize(size, Image.Resampling.BICUBIC, box=(0, 0, width / across, height / down))


def padded(image: Image.Image) -> Image.Image:
    """The image amid grey, where it is narrower than ``MIN_SIDE`` and ``MAX_ASPECT`` allow; else the image itself."""
    least = max(MIN_SIDE, math.ceil(max(image.size) / MAX_ASPECT))
    width, height = (max(side, least) for side in image.size)
    if (width, height) == image.size:
        return image
    canvas = Image.new("RGB", (width, height), GREY)
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas
