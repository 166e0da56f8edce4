"""Images to calibrate and compare INT8 models with: a folder the user names, with persons imagined in each image.

Pixels are decoded, and crops cut from them, by the served functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cocoer_bls.boxes import Box, Person
from cocoer_bls.errors import InputError
from cocoer_bls.files import file_digest
from cocoer_bls.images import MAX_PIXELS, DecodeLimits, decode
from cocoer_bls.inputs import MIN_SCORE, Tensors, detection_inputs, recognition_inputs

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
LIMITS = DecodeLimits(max_bytes=1 << 40, max_pixels=MAX_PIXELS)
"""The user's own files: what Pillow opens at all."""
PERSONS = 2
"""Persons imagined in each image."""
HELD_OUT = 5
"""Every fifth image is not calibrated with, but compared on."""


class CalibrationError(Exception):
    """A folder that can't be calibrated with; the message says why."""


@dataclass(frozen=True)
class Scene:
    """An image with persons imagined at random places: trunks see the pixels they will see, no detector is needed."""

    image: np.ndarray
    """UINT8 [height, width, 3], BGR."""
    persons: tuple[Person, ...]

    def detection(self, size: int) -> Tensors:
        """What ``detection`` is sent of the image; letterboxes of ``size`` x ``size`` pixels."""
        return detection_inputs([self.image], [MIN_SCORE], size)

    @cached_property
    def recognition(self) -> Tensors:
        """What ``recognition`` is sent of the image and its persons."""
        return recognition_inputs([(self.image, self.persons)])


class CalibrationImages:
    """The images of a folder.

    Args:
        folder: JPEG, PNG, WebP or BMP files, read in the order of their names; sub-folders are not.

    Raises:
        CalibrationError: no folder, no image in it, or a file that can't be read.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise CalibrationError(f"{folder} is not a folder; --calibration wants one with images like yours")
        self.files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if not self.files:
            raise CalibrationError(f"{folder} has no image ({', '.join(SUFFIXES)})")
        for index in range(len(self.files)):  # a file that can't be read is to be known now, not after the build
            self._read(index)

    @property
    def held_out(self) -> bool:
        """Whether there are enough images to keep some for the comparison alone."""
        return len(self.files) >= HELD_OUT

    def calibrating(self) -> Iterator[Scene]:
        """Images to calibrate with, read one by one."""
        return (self._read(i) for i in range(len(self.files)) if not self.held_out or i % HELD_OUT)

    def comparing(self) -> Iterator[Scene]:
        """Images to compare on, read one by one."""
        return (self._read(i) for i in range(len(self.files)) if not self.held_out or not i % HELD_OUT)

    def identity(self) -> str:
        """SHA-256 over the files' own."""
        return hashlib.sha256("".join(map(file_digest, self.files)).encode()).hexdigest()

    def _read(self, index: int) -> Scene:
        try:
            image = decode(self.files[index].read_bytes(), LIMITS)
        except InputError as error:
            raise CalibrationError(
                f"{self.files[index]} can't be read as an image; remove or repair it ({error})"
            ) from error
        rng = np.random.default_rng(index)
        bodies = [_imagine(rng, image.shape, 0.3, 0.9) for _ in range(PERSONS)]
        return Scene(image, tuple(Person(body, _head(body)) for body in bodies))


def _imagine(rng: np.random.Generator, shape: tuple[int, ...], min_share: float, max_share: float) -> Box:
    """An upright box somewhere in an image [height, width], ``min_share`` to ``max_share`` of its height."""
    height = max(2, int(shape[0] * rng.uniform(min_share, max_share)))
    width = min(shape[1], max(2, int(height * rng.uniform(0.35, 0.7))))
    x, y = (int(rng.integers(0, room + 1)) for room in (shape[1] - width, shape[0] - height))
    return x, y, x + width, y + height


def _head(body: Box) -> Box:
    """The upper middle of a body."""
    x1, y1, x2, y2 = body
    side = max(1, min(x2 - x1, y2 - y1) // 3)
    middle = (x1 + x2) // 2
    return middle - side // 2, y1, middle - side // 2 + side, y1 + side
