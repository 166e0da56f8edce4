"""Pixels: the detectors' letterbox and the network's crops. Images are UINT8 [height, width, 3], BGR."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from PIL import Image

from cocoer_bls.decoding import FACTORS, MAX_PIXELS, MAX_SCANS, DecodeLimits, decode
from cocoer_bls.decoding.canvas import four_bytes, padded
from cocoer_bls.resampling import resampler

__all__ = [
    "CROP",
    "LETTERBOX",
    "MAX_PIXELS",
    "MAX_SCANS",
    "DecodeLimits",
    "crop",
    "crop_smaller",
    "decode",
    "factor_for",
    "letterbox",
]

CROP = 224
"""Side of the network's input."""
REDUCING_GAP = 3.0
"""Where bytes need not be the same: Pillow averages whole pixels down to this times the size first, which is faster."""
LETTERBOX = 640
"""Side of the detectors' input, unless the build says another (``detector_size`` of ``build.json``)."""


def letterbox(image: np.ndarray, size: int = LETTERBOX, square: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Scale to fit size x size, aspect kept, pasted top-left on black (insightface's way).

    Args:
        image: UINT8 [height, width, 3], BGR.
        size: side, pixels.
        square: UINT8 [size, size, 3] to be filled, whatever it holds; None: a new one.

    Returns:
        UINT8 [size, size, 3], and letterbox pixels per original pixel.
    """
    height, width = image.shape[:2]
    if height > width:
        new_height, new_width = size, int(size / (height / width))
    else:
        new_height, new_width = int(size * (height / width)), size
    # An image some hundred times longer than wide would shrink to nothing.
    new_height, new_width = max(new_height, 1), max(new_width, 1)
    scaled = four_bytes(image)
    if (new_width, new_height) != (width, height):
        scaled = cv2.resize(scaled, (new_width, new_height))
    if square is None:
        square = np.empty((size, size, 3), dtype=np.uint8)
    square[new_height:], square[:new_height, new_width:] = 0, 0
    pasted = square[:new_height, :new_width]
    if scaled.shape[2] == 4:
        cv2.cvtColor(scaled, cv2.COLOR_BGRA2BGR, dst=pasted)  # in place; NumPy takes many times as long for it
    else:
        pasted[...] = scaled
    return square, new_height / height


def crop(image: np.ndarray, box: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """A box of the image (x1, y1, x2, y2; None: all of it) as the network sees it: UINT8 [224, 224, 3].

    Resized as Pillow 13 does with BILINEAR, which low-pass filters when it shrinks; OpenCV's does not. Other versions
    of Pillow differ by a grey level here and there (see ``vertical_first``), so that the two passes are asked for one
    by one. Of a canvas, a build that has compiled ``resampling`` makes the same bytes without Pillow.
    """
    x1, y1, x2, y2 = box = box or (0, 0, image.shape[1], image.shape[0])
    width, height = x2 - x1, y2 - y1
    downwards = vertical_first(width, height)
    if (resample := resampler()) and (whole := padded(image)) is not None:
        return resample(whole, box, CROP, downwards)
    found = _for_pillow(image, box)
    between = (width, CROP) if downwards else (CROP, height)
    for size in (between, (CROP, CROP)):
        found = found.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(found)


def _for_pillow(image: np.ndarray, box: tuple[int, int, int, int]) -> Image.Image:
    """A box of the image, in BGR where Pillow thinks of RGB: to a resize all channels are alike.

    A canvas is not copied. ``Image.resize`` has a ``box`` too, but lets pixels around it into the result.
    """
    x1, y1, x2, y2 = box
    whole = padded(image)
    if whole is None:
        return Image.fromarray(np.ascontiguousarray(image[y1:y2, x1:x2]))
    width = whole.shape[1]
    first = whole.reshape(-1)[4 * (y1 * width + x1) :]
    # What Image.frombuffer does for RGBX. For RGB, whose pixels lie the same way in memory, it would copy; as RGBX all
    # four bytes of each pixel would be resized, which takes a quarter longer.
    mapped = Image.core.map_buffer(first, (x2 - x1, y2 - y1), "raw", 0, ("RGB", 4 * width, 1))
    return Image.Image()._new(mapped)


def crop_smaller(image: np.ndarray, box: tuple[int, int, int, int] | None, size: tuple[int, int]) -> np.ndarray:
    """Nearly ``crop`` of an image that was decoded smaller than it is.

    Args:
        image: UINT8 [height, width, 3], BGR.
        box: in pixels of the whole image; None: all of it.
        size: width and height of the whole image.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box or (0, 0, *size)
    x, y = width / size[0], height / size[1]
    part = (x1 * x, y1 * y, min(x2 * x, width), min(y2 * y, height))
    whole = _for_pillow(image, (0, 0, width, height))
    return np.asarray(whole.resize((CROP, CROP), Image.Resampling.BILINEAR, box=part, reducing_gap=REDUCING_GAP))


def factor_for(boxes: Iterable[tuple[int, int, int, int]]) -> int:
    """The largest of ``FACTORS`` by which an image can be divided so that none of these crops is enlarged; else 1.

    >>> factor_for([(0, 0, 4000, 3000), (100, 100, 1100, 2900), (300, 200, 760, 700)])
    2
    >>> factor_for([(0, 0, 4000, 3000), (300, 200, 740, 700)])
    1
    """
    least = min(min(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes)
    return next((factor for factor in FACTORS if least >= factor * CROP), 1)


def vertical_first(width: int, height: int) -> bool:
    """Whether Pillow 13 shrinks this image's height to 224 before its width; earlier versions never do.

    The result of the first pass is rounded to whole grey levels, so that the order shows. The rule was found by
    comparison; the tests hold it to Pillow itself.
    """
    return height > CROP and 2 * width < height + CROP
