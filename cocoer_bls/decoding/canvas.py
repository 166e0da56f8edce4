"""What images are decoded into: four bytes a pixel, of which Pillow can resize any box in place.

Pillow itself keeps RGB that way. An image of three bytes a pixel has to be copied for it, which takes as long as the
resizing.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

BLOCK = 64 << 20
"""Bytes that Pillow asks for at once (as of ``PILLOW_BLOCK_SIZE``): more than glibc keeps for the next one when they
are freed, which it does in each thread (mallopt(3), M_MMAP_THRESHOLD). Large images go back to the system then."""
Image.core.set_block_size(BLOCK)
# Nor is Pillow to keep such blocks, as PILLOW_BLOCKS_MAX in the server's environment would have it.
Image.core.set_blocks_max(0)
_STRIP = 1 << 18
"""Pixels that are copied at once."""


def canvas(height: int, width: int) -> np.ndarray:
    """An image to be filled: UINT8 [height, width, 3], BGR. Each pixel has a fourth byte that nobody looks at."""
    # Pillow wants whole rows: of a box at the right end, the last one reaches into the row below.
    return np.empty((height + 1, width, 4), dtype=np.uint8)[:height, :, :3]


def padded(image: np.ndarray) -> np.ndarray | None:
    """A canvas with its fourth bytes and a spare row: UINT8 [height + 1, width, 4]; None: the image is no canvas.

    >>> padded(canvas(3, 5)).shape
    (4, 5, 4)
    >>> padded(canvas(3, 5)[1:]), padded(np.zeros((3, 5, 3), np.uint8))
    (None, None)
    """
    base, (height, width) = image.base, image.shape[:2]
    if not isinstance(base, np.ndarray) or base.shape != (height + 1, width, 4) or base.dtype != np.uint8:
        return None
    same = image.strides == base.strides and image.ctypes.data == base.ctypes.data
    return base if same and base.flags.c_contiguous else None


def four_bytes(image: np.ndarray) -> np.ndarray:
    """An image as OpenCV takes it without a copy: a canvas with its fourth bytes, [height, width, 4]; others as is."""
    whole = padded(image)
    return image if whole is None else whole[:-1]


def from_pillow(image: Image.Image) -> np.ndarray:
    """A loaded image of any mode on a canvas: alpha is dropped, 16 bits become 8. In strips, so that it is there once.

    >>> from_pillow(Image.new("RGB", (2, 1), (1, 2, 3))).tolist()
    [[[3, 2, 1], [3, 2, 1]]]
    """
    pixels = canvas(image.height, image.width)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
            pixels[top : top + rows] = (np.asarray(strip) >> 8).astype(np.uint8)[..., None]
        else:
            whole = strip if strip.mode == "RGB" else strip.convert("RGB")
            coded = np.frombuffer(whole.tobytes("raw", "BGRX"), dtype=np.uint8)
            four_bytes(pixels)[top : top + rows] = coded.reshape(whole.height, whole.width, 4)
    return pixels


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a canvas by an EXIF orientation of 1 to 8; the one that was given may be overwritten."""
    if orientation >= 5:
        turned = canvas(pixels.shape[1], pixels.shape[0])
        cv2.transpose(four_bytes(pixels), dst=four_bytes(turned))
        pixels = turned
    axis = {2: 1, 6: 1, 4: 0, 8: 0, 3: -1, 7: -1}.get(orientation)
    if axis is not None:
        cv2.flip(four_bytes(pixels), axis, dst=four_bytes(pixels))
    return pixels
