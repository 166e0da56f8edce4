"""Decoding: encoded images to pixels, UINT8 [height, width, 3], BGR. Each format has a module."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import numpy as np
from PIL import Image

from cocoer_bls.decoding import bmp, heif, jpeg, png, webp
from cocoer_bls.decoding.kinds import format_of
from cocoer_bls.decoding.limits import (
    FACTORS,
    FORMATS,
    MAX_PIXELS,
    MAX_SCANS,
    SPELLING,
    Decoded,
    DecodeLimits,
    Opened,
    damaged,
    not_an_image,
)
from cocoer_bls.errors import InputError

__all__ = [
    "FACTORS",
    "FORMATS",
    "MAX_PIXELS",
    "MAX_SCANS",
    "DecodeLimits",
    "Decoded",
    "Opened",
    "decode",
    "open_image",
    "quiet",
    "read_image",
]

_READERS: dict[str, Callable[[bytes, DecodeLimits], Opened]] = {
    "JPEG": jpeg.read,
    "PNG": png.read,
    "WEBP": webp.read,
    "BMP": bmp.read,
    "AVIF": heif.read_avif,
    "HEIC": heif.read_heic,
}


def decode(data: bytes, limits: DecodeLimits) -> np.ndarray:
    """An encoded image to BGR pixels; a damaged one is refused. See ``read_image``."""
    return read_image(data, limits).pixels


def read_image(data: bytes, limits: DecodeLimits, accept_damage: bool = False) -> Decoded:
    """An encoded image to BGR pixels.

    EXIF orientation is applied (of the first valid EXIF data; XMP's is not), alpha dropped, 16 bits become 8, grey and
    palettes become BGR, CMYK is converted without colour profile, and of an animation the first frame is taken. What
    does not concern the pixels (profiles, texts, what follows the image's end) is neither unpacked nor judged.

    Args:
        data: a file in one of the allowed formats.
        limits: what is allowed; checked in the header, before anything is decoded.
        accept_damage: decode what there is of a damaged or cut-off file, and say in ``damage`` what is wrong.

    Raises:
        InputError: empty, too large, not one of the formats, of a kind that can't be read, or damaged.
        MemoryError: the pixels don't fit into memory now.
    """
    with quiet():
        return open_image(data, limits).load(accept_damage)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow's remarks on a file out of the log. Not for several threads at once: enter it around them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_image(data: bytes, limits: DecodeLimits) -> Opened:
    """The header of an encoded image, from which ``read_image`` goes on; any thread may load it, ``quiet`` around it.

    Raises:
        InputError: what can be told without decoding.
    """
    if not data:
        raise InputError("empty", f"IMAGE is empty; send the bytes of a {limits.describe_formats()} file")
    if len(data) > limits.max_bytes:
        raise InputError(
            "bytes", f"IMAGE has {len(data)} bytes, more than the allowed {limits.max_bytes}; scale or compress it"
        )
    form = format_of(data)
    if form not in limits.formats:
        raise _not_allowed(form, limits)
    opened = _told(lambda: _READERS[form](bytes(data), limits), limits)
    smaller = opened.load_smaller
    return replace(
        opened,
        load=lambda accept: _told(lambda: opened.load(accept), limits),
        load_smaller=smaller and (lambda accept, factor: _told(lambda: smaller(accept, factor), limits)),
    )


_Read = TypeVar("_Read")


def _told(step: Callable[[], _Read], limits: DecodeLimits) -> _Read:
    """Do a step of a decoder; whatever goes wrong is told as InputError."""
    try:
        return step()
    except (InputError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise InputError(
            "pixels", f"IMAGE has more than the allowed {limits.max_pixels} pixels; scale it down"
        ) from None
    except Exception:  # decoders of damaged files raise anything
        raise damaged("it can't be decoded", usable=False) from None


def _not_allowed(form: str | None, limits: DecodeLimits) -> InputError:
    if form is None:
        return not_an_image(limits)
    name = SPELLING.get(form, form)
    article = "an" if name[0] in "AEHIMS" and name not in ("HEIC", "MNG") else "a"
    advice = "convert it to JPEG or PNG"
    if form in FORMATS:
        advice += f", or have the server allow it ({form} in formats of its configuration)"
    return InputError(
        "format", f"IMAGE is {article} {name} file, not an image in {limits.describe_formats()} format; {advice}"
    )
