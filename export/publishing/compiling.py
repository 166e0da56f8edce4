"""Compiling what the served model has in C: ``cocoer_bls/resampling``. Not needed: without it Pillow does the same."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from cocoer_bls.images import CROP, crop, vertical_first
from cocoer_bls.resampling import LIBRARY, SOURCE, NoLibrary, Resampler
from export import MODEL_CODE

logger = logging.getLogger(__name__)

COMPILERS = ("cc", "gcc", "clang")
FLAGS = (
    "-O3",
    "-std=c11",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",  # a product and a sum are rounded each, as in Pillow
)
MACHINES = ("x86_64", "AMD64")
TRIED = ((640, 480), (100, 90), (224, 1000), (3, 700))
"""Width and height of boxes of which the library has to make what Pillow makes."""
TIMEOUT = 120
"""Seconds."""


def library_path(repository: Path) -> Path:
    """Where a repository has the library."""
    return repository / "cocoer" / "1" / MODEL_CODE.name / "resampling" / LIBRARY


def compiler() -> str | None:
    """The C compiler: ``CC`` of the environment, else the first that is on PATH; None: there is none."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CC"), *COMPILERS)))), None)


@cache
def compiled(code: Path | None = None) -> bytes | None:
    """The library; None, after a warning, where it can't be made or does not make the same bytes as Pillow here.

    Args:
        code: ``cocoer_bls`` of another checkout, whose library it shall be.
    """
    if platform.machine() not in MACHINES:
        return None  # of other CPUs nothing is lost that there could be
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / LIBRARY
        try:
            _compile((code or MODEL_CODE) / "resampling" / SOURCE, path)
            _check(Resampler(path))
        except NoLibrary as error:
            logger.warning("crops will be cut by Pillow, which takes four times as long: %s", error)
            return None
        return path.read_bytes()


def _compile(source: Path, path: Path) -> None:
    """Raises NoLibrary."""
    command = compiler()
    if command is None:
        raise NoLibrary(f"there is no C compiler ({', '.join(COMPILERS)}) on PATH, nor in CC")
    try:
        done = subprocess.run(
            [command, *FLAGS, "-o", path.name, str(source)],
            cwd=path.parent,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoLibrary(f"{command} does not compile {source} ({error})") from error
    if done.returncode:
        raise NoLibrary(f"{command} does not compile {source}: {done.stderr.strip()[-500:]}")


def _check(resample: Resampler) -> None:
    """Compare with Pillow, on noise, which shows every rounding; raises NoLibrary."""
    rng = np.random.default_rng(0)
    for width, height in TRIED:
        pixels = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
        found = resample(pixels, (0, 0, width, height), CROP, vertical_first(width, height))
        if not np.array_equal(found, crop(np.ascontiguousarray(pixels[..., :3]))):
            raise NoLibrary(f"{SOURCE} does not make the bytes of Pillow {Image.__version__}")
