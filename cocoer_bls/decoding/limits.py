"""What is decoded at all, and what a decoder returns."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cocoer_bls.errors import InputError

DEFAULT_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""What is allowed where nothing else is said."""
FORMATS = (*DEFAULT_FORMATS, "AVIF", "HEIC")
"""What can be allowed."""
SPELLING = {"WEBP": "WebP"}
MAX_SCANS = 100
"""Of a progressive JPEG. Real ones have about ten; each costs a pass over all of the image, however few its bytes."""
FACTORS = (8, 4, 2)
"""By which a JPEG's width and height can be divided while it is decoded (others make it no faster)."""
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
    formats: tuple[str, ...] = DEFAULT_FORMATS

    def __post_init__(self) -> None:
        if unknown := set(self.formats) - set(FORMATS):
            raise ValueError(f"formats: {', '.join(sorted(unknown))} can't be served; there are {', '.join(FORMATS)}")
        if min(self.max_bytes, self.max_pixels, len(self.formats)) < 1:
            raise ValueError("max_bytes and max_pixels must be at least 1, and at least one format allowed")
        if self.max_pixels > MAX_PIXELS:
            raise ValueError(f"max_pixels can be at most {MAX_PIXELS}, got {self.max_pixels}")
        if "HEIC" in self.formats and importlib.util.find_spec("pillow_heif") is None:
            raise ValueError(
                "formats: HEIC needs the package pillow-heif; install it into the server's Python "
                "(pip install pillow-heif), or take HEIC off the list"
            )

    def describe_formats(self) -> str:
        """The allowed formats in words.

        >>> DecodeLimits(1, 1, ("JPEG", "PNG", "WEBP")).describe_formats()
        'JPEG, PNG or WebP'
        """
        *first, last = (SPELLING.get(name, name) for name in self.formats)
        return f"{', '.join(first)} or {last}" if first else last

    def check_size(self, width: int, height: int) -> None:
        """Called with what a header says, before anything is decoded; raises InputError."""
        if width * height > self.max_pixels:
            raise InputError(
                "pixels", f"IMAGE is {width}x{height}, more than the allowed {self.max_pixels} pixels; scale it down"
            )


@dataclass(frozen=True)
class Decoded:
    """An image as it was read.

    Args:
        pixels: UINT8 [height, width, 3], BGR, upright; a ``canvas``.
        damage: what is wrong with the file, where it was accepted all the same; None: nothing.
        factor: how many times smaller than the file's the width and height are, rounded up.
    """

    pixels: np.ndarray
    damage: str | None = None
    factor: int = 1


@dataclass(frozen=True)
class Opened:
    """A file whose header was read, and nothing else: what it will take is known before it is taken.

    Args:
        width, height: as the file has them, before it is turned upright; allowed ones.
        load: decodes; its argument: whether damage is accepted. Raises InputError.
        load_smaller: the same, and one of ``FACTORS``, by which width and height are divided before pixels are made,
            which takes less time. None: this format can't.
        turned: width and height change places when it is turned upright; known of JPEGs alone.
    """

    width: int
    height: int
    load: Callable[[bool], Decoded]
    load_smaller: Callable[[bool, int], Decoded] | None = None
    turned: bool = False

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the upright image, where ``turned`` is known."""
        return (self.height, self.width) if self.turned else (self.width, self.height)


def not_an_image(limits: DecodeLimits) -> InputError:
    """The refusal of what has no readable header of any allowed format."""
    return InputError("format", f"IMAGE is not an image in {limits.describe_formats()} format")


def unreadable(form: str, why: str) -> InputError:
    """The refusal of a whole file of a kind that no decoder here reads."""
    return InputError("format", f"IMAGE is a {form} of a kind that can't be read ({why}); save it as 8-bit JPEG or PNG")


def damaged(what: str, usable: bool = True) -> InputError:
    """The refusal of a damaged file.

    Args:
        what: what is wrong; starts in lower case.
        usable: some pixels can be decoded.
    """
    advice = "send the whole file" + (", or set on_damage to accept to use what there is" if usable else "")
    return InputError("damaged", f"IMAGE is damaged: {what}; {advice}")


def missing(share: float, part: str) -> str:
    """How much is missing, in words; empty where it is next to nothing.

    >>> missing(0.5, "lower")
    ', and about 50% of the image (its lower part) is missing'
    """
    percent = round(100 * share)
    return f", and about {percent}% of the image (its {part} part) is missing" if percent else ""
