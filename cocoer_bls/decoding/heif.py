"""AVIF (in Pillow) and HEIC (pillow-heif): read where ``formats`` names them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from cocoer_bls.decoding.limits import Decoded, DecodeLimits, damaged, not_an_image


def read_avif(data: bytes, limits: DecodeLimits, accept: bool) -> Decoded:
    """Decode the first image; raises InputError. Its rotation and mirroring are the container's."""
    try:
        image = Image.open(io.BytesIO(data), formats=("AVIF",))
    except Image.DecompressionBombError:
        raise
    except (OSError, SyntaxError, ValueError):
        raise not_an_image(limits) from None
    with image:
        return _loaded(image, limits)


def read_heic(data: bytes, limits: DecodeLimits, accept: bool) -> Decoded:
    """Decode the primary image; raises InputError. libheif turns and mirrors it as its container says."""
    import pillow_heif

    try:
        heif = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError):
        raise not_an_image(limits) from None
    limits.check_size(*heif.size)
    try:
        image = heif.to_pillow()
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError):
        raise damaged("its image data is garbled or ends too early", usable=False) from None
    return Decoded(_bgr(image))


def _loaded(image: Image.Image, limits: DecodeLimits) -> Decoded:
    limits.check_size(*image.size)
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError):
        raise damaged("its image data is garbled or ends too early", usable=False) from None
    return Decoded(_bgr(ImageOps.exif_transpose(image)))


def _bgr(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
