"""Pillow's resize in the CPU's vector instructions (``resample.c``), where a build has compiled it; to the same bytes.

A build puts the library beside this module. Where there is none, or this machine can't run it, Pillow itself resizes,
which takes four times as long.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import numpy as np

SOURCE, LIBRARY = "resample.c", "resample.so"
_HERE = Path(__file__).parent


class NoLibrary(Exception):
    """The library can't be used; says why."""


class Resampler:
    """The library.

    Args:
        path: of it.

    Raises:
        NoLibrary: there is none, or it is for another kind of CPU.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise NoLibrary("the build had no C compiler, or was for another kind of CPU")
        try:
            library = ctypes.CDLL(str(path))  # its functions run without Python's lock
            if not library.resample_runs_here():
                raise NoLibrary("this CPU has no AVX2")
            self._room, self._resample = library.resample_room, library.resample
        except (OSError, AttributeError) as error:
            raise NoLibrary(f"{path} can't be loaded ({error})") from None
        number, pointer = ctypes.c_int32, ctypes.c_void_p
        self._room.argtypes, self._room.restype = [number] * 4, ctypes.c_int64
        self._resample.argtypes = [pointer, ctypes.c_int64, *[number] * 4, pointer, pointer]
        self._resample.restype = None

    def __call__(
        self, pixels: np.ndarray, box: tuple[int, int, int, int], side: int, vertical_first: bool
    ) -> np.ndarray:
        """A box of an image, resized with Pillow's BILINEAR.

        Args:
            pixels: UINT8 [height, width, 4], contiguous; the fourth bytes don't matter.
            box: (x1, y1, x2, y2), with at least one pixel.
            side: of the result.
            vertical_first: whether heights are resized before widths.

        Returns:
            UINT8 [side, side, 3].

        Raises:
            ValueError: the box is not in the image, or the pixels are other ones; C would read elsewhere.
        """
        x1, y1, x2, y2 = map(int, box)
        rows, columns, channels = pixels.shape
        if not (0 <= x1 < x2 <= columns and 0 <= y1 < y2 <= rows):
            raise ValueError(f"the box {box} is not in an image of {columns}x{rows}")
        if channels != 4 or pixels.dtype != np.uint8 or not pixels.flags.c_contiguous:
            raise ValueError("pixels must be UINT8 [height, width, 4], contiguous")
        width, height, stride = x2 - x1, y2 - y1, pixels.strides[0]
        room = np.empty(self._room(width, height, side, vertical_first), dtype=np.uint8)
        resized = np.empty((side, side, 3), dtype=np.uint8)
        first = pixels.ctypes.data + y1 * stride + 4 * x1
        self._resample(first, stride, width, height, side, vertical_first, room.ctypes.data, resized.ctypes.data)
        return resized


def resampler() -> Resampler | None:
    """The library that lies beside this module; None: Pillow resizes."""
    return _found()[0]


def why_not() -> str:
    """Why Pillow resizes; empty where it need not."""
    return _found()[1]


@cache
def _found() -> tuple[Resampler | None, str]:
    try:
        return Resampler(_HERE / LIBRARY), ""
    except NoLibrary as error:
        return None, str(error)
