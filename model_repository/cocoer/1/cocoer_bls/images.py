"""Pixels: decoding, the detectors' letterbox, the network's windows. Images are UINT8 [height, width, 3], BGR."""

from __future__ import annotations

import io
import os

# OpenCV reads it when it is loaded. Ours is the stricter, configurable limit; this one is the decoder's own backstop.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 28))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from cocoer_bls.errors import InputError  # noqa: E402

WINDOW = 224
"""Side of the network's input."""
LETTERBOX = 640
"""Side of the detectors' input."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


def decode(data: bytes, max_pixels: int) -> np.ndarray:
    """An encoded picture to BGR pixels, as OpenCV decodes it (EXIF orientation applied, alpha dropped, 16 bits to 8).

    Args:
        data: a JPEG, PNG, WebP or BMP file.
        max_pixels: largest width times height; checked in the header, before anything is decoded.

    Raises:
        InputError: empty, not one of the formats, too large, or damaged.
    """
    if not data:
        raise InputError("IMAGE is empty; send the bytes of a JPEG, PNG, WebP or BMP file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            width, height = header.size
    except Image.DecompressionBombError:
        raise InputError(f"IMAGE has more than the allowed {max_pixels} pixels; scale it down") from None
    except Exception:  # decoders of damaged headers raise anything from SyntaxError to struct.error
        raise InputError("IMAGE is not a picture in JPEG, PNG, WebP or BMP format") from None
    if width * height > max_pixels:
        raise InputError(f"IMAGE is {width}x{height}, more than the allowed {max_pixels} pixels; scale it down")
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise InputError("IMAGE is damaged and can't be decoded; is the file complete?")
    return image


def letterbox(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Scale to fit 640x640, aspect kept, pasted top-left on black (insightface's way).

    Returns:
        UINT8 [640, 640, 3], and letterbox pixels per original pixel.
    """
    height, width = image.shape[:2]
    if height > width:
        new_height, new_width = LETTERBOX, int(LETTERBOX / (height / width))
    else:
        new_height, new_width = int(LETTERBOX * (height / width)), LETTERBOX
    # A picture 640 times longer than wide would shrink to nothing.
    new_height, new_width = max(new_height, 1), max(new_width, 1)
    canvas = np.zeros((LETTERBOX, LETTERBOX, 3), dtype=np.uint8)
    canvas[:new_height, :new_width] = cv2.resize(image, (new_width, new_height))
    return canvas, new_height / height


def window(image: np.ndarray, box: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """A box of the image (x1, y1, x2, y2; None: all of it) as the network sees it: UINT8 [224, 224, 3].

    Resized as Pillow 13 does with BILINEAR, which low-pass filters when it shrinks; OpenCV's does not. Other versions
    of Pillow differ by a grey level here and there (see ``vertical_first``), so that the two passes are asked for one
    by one.
    """
    if box is not None:
        x1, y1, x2, y2 = box
        image = image[y1:y2, x1:x2]
    height, width = image.shape[:2]
    between = (width, WINDOW) if vertical_first(width, height) else (WINDOW, height)
    picture = Image.fromarray(np.ascontiguousarray(image))
    for size in (between, (WINDOW, WINDOW)):
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture)


def vertical_first(width: int, height: int) -> bool:
    """Whether Pillow 13 shrinks this picture's height to 224 before its width; earlier versions never do.

    The result of the first pass is rounded to whole grey levels, so that the order shows. The rule was found by
    comparison; the tests hold it to Pillow itself.
    """
    return height > WINDOW and 2 * width < height + WINDOW
