"""Annotated images as files: which format, and what of the original file goes with it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Literal, get_args

from PIL import Image

from cocoer_client.errors import InvalidInput
from cocoer_client.files import replace_file

ImageFormat = Literal["auto", "jpeg", "png", "webp"]
"""``auto``: the input's, as its name tells; PNG, which loses nothing, for BMP and where the name says nothing."""
IMAGE_FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)
QUALITY = 90
Info = dict[str | tuple[int, int], Any]
"""Of Pillow's images."""
SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
MAX_SIDE = {".jpg": 65535, ".webp": 16383}
FULL_COLOUR = 1440
"""Images whose shorter side is below this keep each pixel's colour in a JPEG (4:4:4). Their boxes are under six pixels
wide, and half the colours (4:2:0) make them pale; above it nothing shows, and the file is a fifth smaller."""


def suffix_of(name: str, image_format: ImageFormat) -> str:
    """The suffix of an annotated image.

    Args:
        name: the input's; a URL's path ends like a file.
        image_format: as asked for.

    >>> suffix_of("a.JPEG", "auto"), suffix_of("a.bmp", "auto"), suffix_of("stdin", "auto"), suffix_of("a.png", "webp")
    ('.jpg', '.png', '.png', '.webp')
    """
    if image_format != "auto":
        return SUFFIXES[image_format]
    suffix = PurePath(name.partition("?")[0]).suffix.lower()
    return ".jpg" if suffix in JPEG_SUFFIXES else ".webp" if suffix == ".webp" else ".png"


def save(image: Image.Image, path: Path, quality: int = QUALITY) -> None:
    """Write an image, in the format that its name's suffix tells, atomically.

    Args:
        image: RGB.
        path: ends in ``.jpg``, ``.png`` or ``.webp``.
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        InvalidInput: the format has no images as large as this.
        OSError: it can't be written.
    """
    suffix = path.suffix.lower()
    if not fits(image, suffix):
        raise InvalidInput(
            f"the annotated image has {image.width} x {image.height} pixels, {suffix} files have up to "
            f"{MAX_SIDE[suffix]} a side; choose --format png"
        )
    replace_file(path, lambda temporary: _write(image, temporary, suffix, quality))


def to_bytes(image: Image.Image, suffix: str, quality: int = QUALITY) -> bytes:
    """The content of the file that ``save`` writes; ``suffix`` is the file's, and the image one that ``fits``."""
    stream = io.BytesIO()
    _write(image, stream, suffix, quality)
    return stream.getvalue()


def fits(image: Image.Image, suffix: str) -> bool:
    """Whether the format of files with this suffix has images as large as this."""
    return max(image.size) <= MAX_SIDE.get(suffix, max(image.size))


def _write(image: Image.Image, target: Path | BinaryIO, suffix: str, quality: int) -> None:
    """The colour profile goes with it. Nothing else does: neither EXIF data with place and time, nor comments."""
    options = {".jpg": _jpeg, ".webp": _webp}.get(suffix, _png)(image, quality)
    profile = profile_of(image.info)
    plain = image.copy() if image.info != profile else image
    plain.info = profile  # Pillow would write comments and the like from it
    plain.save(target, **options, icc_profile=profile.get("icc_profile"))


def _jpeg(image: Image.Image, quality: int) -> dict[str, Any]:
    subsampling = "4:4:4" if min(image.size) < FULL_COLOUR else "4:2:0"
    return {"format": "JPEG", "quality": quality, "subsampling": subsampling}


def _webp(image: Image.Image, quality: int) -> dict[str, Any]:
    # The fastest: a third of the time of the usual 4, and files a seventh larger.
    return {"format": "WEBP", "quality": quality, "method": 0}


def _png(image: Image.Image, quality: int) -> dict[str, Any]:
    # A fifth of the time of the usual 6, and files a tenth larger.
    return {"format": "PNG", "compress_level": 1}


def profile_of(info: Mapping[str | tuple[int, int], Any]) -> Info:
    """Of what Pillow knows about a file, what stays true of its pixels as RGB: a colour profile for RGB."""
    profile = info.get("icc_profile")
    return {"icc_profile": profile} if isinstance(profile, bytes) and profile[16:20] == b"RGB " else {}
