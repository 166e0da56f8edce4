"""Cuts: where a film goes on somewhere else. Pure functions of small copies of frames; Pillow and NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from cocoer_client.inputs import Pixels

Array = npt.NDArray[np.float64]
SIDE = (48, 27)
"""Width and height, pixels, of the copies that are compared."""
BINS = 5
"""Of each colour channel."""
MIN_DISTANCE = 0.4
"""Between the colours of two frames with a cut between them: 0 to 1."""
MAX_LIKENESS = 0.5
"""Between what is where in them: correlation, -1 to 1."""
FLASH_S = 0.5
"""A film that is back so soon was not cut: somebody used a flash, or passed close to the camera."""


@dataclass(frozen=True)
class Look:
    """What is compared of a frame."""

    colours: Array
    """FP64 [BINS ** 3]: share of the pixels of each colour; sums to 1."""
    light: Array
    """FP64 [27, 48], normalised to mean 0 and length 1; zero for a frame of one colour."""

    @classmethod
    def of(cls, pixels: Pixels) -> Look:
        """A frame's.

        Args:
            pixels: UINT8 [H, W, 3], RGB.
        """
        small = np.asarray(Image.fromarray(pixels).resize(SIDE, Image.Resampling.BOX, reducing_gap=2.0))
        bins = small.reshape(-1, 3).astype(np.int64) * BINS // 256
        colours = np.bincount(bins @ (BINS**2, BINS, 1), minlength=BINS**3).astype(np.float64)
        light = small.mean(axis=2) - small.mean()
        length = float(np.linalg.norm(light))
        return cls(colours / colours.sum(), light / length if length > 1 else np.zeros_like(light))


def is_cut(before: Look, after: Look) -> bool:
    """Whether both the colours and what is where are others.

    Fast motion leaves the colours, and light that is switched on leaves what is where.
    """
    distance = float(np.abs(before.colours - after.colours).sum()) / 2
    likeness = float((before.light * after.light).sum())
    return distance > MIN_DISTANCE and likeness < MAX_LIKENESS
