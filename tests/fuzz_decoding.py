"""Mutated files against the decoders in a process of their own, which looks at what they do to memory.

    python -m tests.fuzz_decoding [--inputs N] [--seed N]

Each file is decoded whole, and by each factor that its format has, onto canvases that hold something else each time: a
pixel that nothing has been written to would show another caller's image. Whatever comes must be an image of the right
size or an InputError. ``checking()`` is the environment in which Python's and glibc's allocators check every block and
fill what they give; whatever crashes there is told by faulthandler, with the file that did it.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pillow_heif

from cocoer_bls.decoding import FACTORS, FORMATS, Decoded, DecodeLimits, bmp, canvas, jpeg, open_image, quiet
from cocoer_bls.errors import InputError
from cocoer_bls.images import crop, crop_smaller
from tests import hostile

LIMITS = DecodeLimits(max_bytes=1 << 20, max_pixels=2_000_000, formats=FORMATS)
MAX_SECONDS = 20.0
"""Of one decoding, at most: so many scans of so many pixels are allowed, and other processes may have the cores."""
MALLOC_DEBUG = "libc_malloc_debug.so.0"


def checking() -> dict[str, str]:
    """Environment variables for a process whose allocators check what is done to their blocks."""
    return {
        "PYTHONMALLOC": "debug",
        "LD_PRELOAD": MALLOC_DEBUG,
        "GLIBC_TUNABLES": "glibc.malloc.check=3:glibc.malloc.perturb=165",
    }


def more_files() -> list[bytes]:
    """Of the formats that have to be allowed."""
    heic = io.BytesIO()
    pillow_heif.from_pillow(hostile.image()).save(heic)
    return [
        *(hostile.save(hostile.image(mode=mode), "AVIF") for mode in ("RGB", "RGBA")),
        hostile.save(hostile.image(), "AVIF", exif=hostile.turning(6)),
        heic.getvalue(),
    ]


@contextmanager
def canvases_of(value: int) -> Iterator[None]:
    """New canvases hold this value in each byte."""

    def filled(height: int, width: int) -> np.ndarray:
        pixels = np.full((height + 1, width, 4), value, dtype=np.uint8)
        return pixels[:height, :, :3]

    with ExitStack() as patches:
        for module in (canvas, bmp, jpeg):
            patches.enter_context(mock.patch.object(module, "canvas", filled))
        yield


def check(data: bytes, rng: np.random.Generator) -> str:
    """Decode a file in every way; what became of it, in a word. Raises AssertionError for what must not be."""
    try:
        opened = open_image(data, LIMITS)
    except InputError as error:
        return error.reason
    verdict = ""
    for accept in (False, True):
        pixels, said = outcome(lambda accept=accept: open_image(data, LIMITS).load(accept))  # type: ignore[misc]
        verdict = verdict or ("decoded" if pixels is not None else said.partition(":")[0])
        if pixels is None:
            continue
        height, width = pixels.shape[:2]
        assert 0 < width * height <= LIMITS.max_pixels
        assert pixels.shape == (height, width, 3)
        (x1, x2), (y1, y2) = (sorted(int(at) for at in rng.integers(0, side, 2)) for side in (width, height))
        box = (x1, y1, x2 + 1, y2 + 1)
        np.testing.assert_array_equal(crop(pixels, box), crop(pixels.copy(), box))
        if opened.load_smaller is not None:
            assert opened.upright_size == (width, height)
            for factor in FACTORS:
                smaller, said = outcome(partial(opened.load_smaller, accept, factor))
                assert smaller is not None, f"{factor} times smaller: {said}"
                assert smaller.shape == (-(-height // factor), -(-width // factor), 3)
                crop_smaller(smaller, box, opened.upright_size)
    return verdict


def outcome(load: Callable[[], Decoded]) -> tuple[np.ndarray | None, str]:
    """Pixels and what is said of the file; that no canvas showed through."""
    found: list[tuple[np.ndarray | None, str]] = []
    for value in (0x55, 0xAA):
        with canvases_of(value):
            try:
                decoded = load()
                found.append((decoded.pixels, str(decoded.damage)))
            except InputError as error:
                found.append((None, f"{error.reason}: {error}"))
    (pixels, said), (again, said_again) = found
    assert said == said_again, (said, said_again)
    assert (pixels is None) == (again is None)
    if pixels is not None and again is not None:
        np.testing.assert_array_equal(pixels, again)
    return pixels, said


def main() -> int:
    """Entry point; takes ``sys.argv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000, help="how many files")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--keep", type=Path, required=True, metavar="FILE", help="where the file at work is written")
    args = parser.parse_args()
    faulthandler.enable()
    rng, outcomes, slowest, started = np.random.default_rng(args.seed), Counter[str](), 0.0, time.monotonic()
    for data in itertools.islice(hostile.mutations(args.seed, more_files()), args.inputs):
        args.keep.write_bytes(data)
        before = time.process_time()
        with quiet():
            outcomes[check(data, rng)] += 1
        slowest = max(slowest, time.process_time() - before)
        assert slowest < MAX_SECONDS, f"a file took {slowest:.0f} s"
    what = ", ".join(f"{count} {word}" for word, count in outcomes.most_common())
    print(
        f"{args.inputs} files (seed {args.seed}) in {time.monotonic() - started:.0f} s: {what}; {slowest:.2f} s at most"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
