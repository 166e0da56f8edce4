"""AVIF (in Pillow) and HEIC (pillow-heif): read where ``formats`` names them."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageOps

from cocoer_bls.decoding.canvas import from_pillow
from cocoer_bls.decoding.limits import Decoded, DecodeLimits, Opened, damaged, not_an_image


def read_avif(data: bytes, limits: DecodeLimits) -> Opened:
    """Open the first image; raises InputError. Its rotation and mirroring are the container's."""
    try:
        image = Image.open(io.BytesIO(data), formats=("AVIF",))
    except Image.DecompressionBombError:
        raise
    except (OSError, SyntaxError, ValueError):
        raise not_an_image(limits) from None
    width, height = image.size
    limits.check_size(width, height)
    return Opened(width, height, lambda accept: _avif(image))


def read_heic(data: bytes, limits: DecodeLimits) -> Opened:
    """Open the primary image; raises InputError. libheif turns and mirrors it as its container says."""
    import pillow_heif

    try:
        heif = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError):
        raise not_an_image(limits) from None
    width, height = heif.size
    limits.check_size(width, height)
    return Opened(width, height, lambda accept: _heic(heif))


def _heic(heif: Any) -> Decoded:
    try:
        image = heif.to_pillow()
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError):
        raise damaged("its image data is garbled or ends too early", usable=False) from None
    return Decoded(from_pillow(image))


def _avif(image: Image.Image) -> Decoded:
    with image:
        try:
            image.load()
        except (OSError, SyntaxError, ValueError, RuntimeError, EOFError):
            raise damaged("its image data is garbled or ends too early", usable=False) from None
        return Decoded(from_pillow(ImageOps.exif_transpose(image)))
