"""Pixels: decoding, the detectors' letterbox, the network's crops. Images are UINT8 [height, width, 3], BGR."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageOps

from cocoer_bls.errors import InputError

CROP = 224
"""Side of the network's input."""
LETTERBOX = 640
"""Side of the detectors' input, unless the build says another (``detector_size`` of ``build.json``)."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""What can be allowed; names are Pillow's."""
SPELLING = {"WEBP": "WebP"}
MAX_SCANS = 100
"""Of a progressive JPEG. Real ones have about ten; each costs a pass over all of the image, however few its bytes."""
MAX_PIXELS = 2 * 89_478_485
"""What Pillow opens at all."""


@dataclass(frozen=True)
class DecodeLimits:
    """What is decoded at all.

    Args:
        max_bytes: largest file.
        max_pixels: largest width times height.
        formats: names of ``FORMATS``.
    """

    max_bytes: int
    max_pixels: int
    formats: tuple[str, ...] = FORMATS

    def __post_init__(self) -> None:
        if unknown := set(self.formats) - set(FORMATS):
            raise ValueError(f"formats: {', '.join(sorted(unknown))} can't be served; there are {', '.join(FORMATS)}")
        if min(self.max_bytes, self.max_pixels, len(self.formats)) < 1:
            raise ValueError("max_bytes and max_pixels must be at least 1, and at least one format allowed")
        if self.max_pixels > MAX_PIXELS:
            raise ValueError(f"max_pixels can be at most {MAX_PIXELS}, got {self.max_pixels}")

    def describe_formats(self) -> str:
        """The allowed formats in words.

        >>> DecodeLimits(1, 1, ("JPEG", "PNG", "WEBP")).describe_formats()
        'JPEG, PNG or WebP'
        """
        *first, last = (SPELLING.get(name, name) for name in self.formats)
        return f"{', '.join(first)} or {last}" if first else last


def decode(data: bytes, limits: DecodeLimits) -> np.ndarray:
    """An encoded image to BGR pixels.

    EXIF orientation is applied, alpha dropped, 16 bits become 8, grey and palettes become BGR, CMYK is converted
    without colour profile, and of an animation the first frame is taken.

    Pillow decodes, to the same pixels as OpenCV: the PNG reader of OpenCV 4.11 crashes on damaged files.

    Args:
        data: a file in one of the allowed formats.
        limits: what is allowed; checked in the header, before anything is decoded.

    Raises:
        InputError: empty, too large, not one of the formats, or damaged.
        MemoryError: the pixels don't fit into memory now.
    """
    if not data:
        raise InputError("empty", f"IMAGE is empty; send the bytes of a {limits.describe_formats()} file")
    if len(data) > limits.max_bytes:
        raise InputError(
            "bytes", f"IMAGE has {len(data)} bytes, more than the allowed {limits.max_bytes}; scale or compress it"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on a file are not the log's business
        with _opened(data, limits) as image:
            try:
                return _pixels(image)
            except MemoryError:
                raise
            except Exception:  # decoders of damaged files raise anything
                raise InputError("damaged", "IMAGE is damaged and can't be decoded; is the file complete?") from None


def _opened(data: bytes, limits: DecodeLimits) -> Image.Image:
    """A file whose header has been read, and is within the limits."""
    try:
        image = Image.open(io.BytesIO(data), formats=limits.formats)
    except Image.DecompressionBombError:
        raise InputError(
            "pixels", f"IMAGE has more than the allowed {limits.max_pixels} pixels; scale it down"
        ) from None
    except MemoryError:
        raise
    except Exception:  # decoders of damaged headers raise anything from SyntaxError to struct.error
        raise InputError("format", f"IMAGE is not an image in {limits.describe_formats()} format") from None
    if image.width * image.height > limits.max_pixels:
        raise InputError(
            "pixels",
            f"IMAGE is {image.width}x{image.height}, more than the allowed {limits.max_pixels} pixels; scale it down",
        )
    if data.startswith(b"\xff\xd8") and (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise InputError("scans", f"IMAGE is a JPEG of {scans} scans, more than the allowed {MAX_SCANS}; save it anew")
    return image


def _pixels(image: Image.Image) -> np.ndarray:
    image.load()
    # Damaged EXIF: the pixels are fine, only what is said about them is not.
    with contextlib.suppress(SyntaxError, ValueError, TypeError, KeyError, struct.error):
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        return cv2.cvtColor((np.asarray(image) >> 8).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.frombuffer(image.tobytes("raw", "BGR"), dtype=np.uint8).reshape(image.height, image.width, 3)


def letterbox(image: np.ndarray, size: int = LETTERBOX) -> tuple[np.ndarray, float]:
    """Scale to fit size x size, aspect kept, pasted top-left on black (insightface's way).

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
    canvas = np.zeros((size, size, 3), dtype=np.uint8)
    canvas[:new_height, :new_width] = cv2.resize(image, (new_width, new_height))
    return canvas, new_height / height


def crop(image: np.ndarray, box: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """A box of the image (x1, y1, x2, y2; None: all of it) as the network sees it: UINT8 [224, 224, 3].

    Resized as Pillow 13 does with BILINEAR, which low-pass filters when it shrinks; OpenCV's does not. Other versions
    of Pillow differ by a grey level here and there (see ``vertical_first``), so that the two passes are asked for one
    by one.
    """
    if box is not None:
        x1, y1, x2, y2 = box
        image = image[y1:y2, x1:x2]
    height, width = image.shape[:2]
    between = (width, CROP) if vertical_first(width, height) else (CROP, height)
    crop_image = Image.fromarray(np.ascontiguousarray(image))
    for size in (between, (CROP, CROP)):
        crop_image = crop_image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(crop_image)


def vertical_first(width: int, height: int) -> bool:
    """Whether Pillow 13 shrinks this image's height to 224 before its width; earlier versions never do.

    The result of the first pass is rounded to whole grey levels, so that the order shows. The rule was found by
    comparison; the tests hold it to Pillow itself.
    """
    return height > CROP and 2 * width < height + CROP
