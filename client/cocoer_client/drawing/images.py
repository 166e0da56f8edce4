"""The annotated image of an image's bytes or a frame."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from cocoer_client.drawing.draw import annotate
from cocoer_client.drawing.essentials import essentials
from cocoer_client.drawing.figures import Boxes
from cocoer_client.drawing.formats import profile_of
from cocoer_client.drawing.release_style import annotate_as_release
from cocoer_client.errors import InvalidInput
from cocoer_client.inputs import Pixels, upright
from cocoer_client.reading import warnings_of

_AT_A_TIME = threading.Lock()
"""What Pillow does with cut-off files is one switch for all threads."""


def open_upright(image: bytes | Pixels) -> Image.Image:
    """An image as the server sees it: RGB, turned by its EXIF orientation; of a damaged one, what there is.

    Of the file's own information (``info``), only a colour profile stays.

    Raises:
        OSError, ValueError, SyntaxError: Pillow can't open it.
        PIL.Image.DecompressionBombError: it is larger than Pillow opens.
    """
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    try:
        turned = _opened(image)
    except (OSError, ValueError, SyntaxError):
        with _AT_A_TIME:
            before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
            try:
                turned = _opened(essentials(image))
            finally:
                ImageFile.LOAD_TRUNCATED_IMAGES = before
    if turned.mode.startswith("I"):  # 16 bits, which Pillow would clip
        turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    profile = profile_of(turned.info)
    turned.info.pop("transparency", None)  # the server drops it too; Pillow would warn that RGB has none
    plain = turned if turned.mode == "RGB" else turned.convert("RGB")
    plain.info = profile
    return plain


def open_as_served(image: bytes | Pixels) -> Image.Image:
    """``open_upright`` of an image that the server has read; raises ``InvalidInput`` where Pillow can't open it."""
    try:
        return open_upright(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidInput(f"the server can read this image, this machine's Pillow can't: {error}") from error


def _opened(image: bytes) -> Image.Image:
    with Image.open(io.BytesIO(image)) as opened:
        opened.load()
        return upright(opened, in_place=True)


def draw(
    image: bytes | Pixels,
    result: Mapping[str, Any],
    style: str,
    boxes_given: bool,
    fixed_size: bool = False,
    *,
    numbers: Mapping[int, int] | None = None,
    boxes: Boxes = "both",
) -> Image.Image:
    """The annotated image, with the colour profile of the file.

    Args:
        image: the file's bytes, or a frame (RGB).
        result: the RESULT object.
        style: ``panel`` or ``release``.
        boxes_given: the detector's warnings are left out.
        fixed_size, numbers, boxes: see ``annotate``; of the release's style, ``boxes`` alone.

    Raises:
        InvalidInput: Pillow can't open it.
    """
    warnings = warnings_of(result, boxes_given)
    canvas = open_as_served(image)
    profile = canvas.info
    if style == "release":
        canvas = annotate_as_release(canvas, result, warnings, boxes)
    else:
        canvas = annotate(canvas, result, warnings, fixed_size, numbers=numbers, boxes=boxes, in_place=True)
    canvas.info = profile
    return canvas
