"""Photographs that others have taken, as they lie in the packages of the tests: to Pillow's pixels, byte for byte."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from cocoer_bls.decoding import DecodeLimits, open_image
from cocoer_bls.images import CROP, crop, crop_smaller, factor_for

LIMITS = DecodeLimits(max_bytes=32 << 20, max_pixels=50_000_000)
PACKAGES = ("skimage", "sklearn", "matplotlib", "insightface")


def photographs() -> list[Path]:
    """JPEGs and PNGs of 200 pixels and more, which leaves out icons."""
    found = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)  # imports nothing
        for path in sorted(Path(spec.origin).parent.rglob("*")) if spec and spec.origin else []:
            if path.suffix.lower() in (".jpg", ".jpeg", ".png") and "tests" not in path.parts:
                with Image.open(path) as image:
                    if min(image.size) >= 200 and image.mode != "I;16":
                        found.append(path)
    return found


PHOTOGRAPHS = photographs()


def test_there_are_some():
    assert sum(path.suffix != ".png" for path in PHOTOGRAPHS) > 5


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.name)
def test_photographs_of_others(path):
    """Whole as Pillow has it, and so their crops; smaller, where a crop can be, as it is told in docs/tuning.md."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    expected = Image.fromarray(np.ascontiguousarray(np.asarray(upright)[..., ::-1]))
    width, height = expected.size
    opened = open_image(path.read_bytes(), LIMITS)
    pixels = opened.load(False).pixels
    np.testing.assert_array_equal(pixels, np.asarray(expected))
    for box in (None, (width // 4, height // 5, 3 * width // 4, 4 * height // 5)):
        part = expected if box is None else expected.crop(box)
        resized = np.asarray(part.resize((CROP, CROP), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(crop(pixels, box), resized)
        factor = factor_for([box or (0, 0, width, height)])
        if opened.load_smaller is not None and factor > 1:
            smaller = crop_smaller(opened.load_smaller(False, factor).pixels, box, (width, height))
            assert np.abs(smaller.astype(int) - resized).mean() < 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_photographs_that_are_turned(orientation, mode):
    """A photograph in each orientation and colour model, with a thumbnail, a profile and a second image behind it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(next(path for path in PHOTOGRAPHS if path.name == "china.jpg")) as image:
        stream, profile = io.BytesIO(), b"no profile" * 7000
        image.convert(mode).save(stream, "JPEG", exif=exif, icc_profile=profile, quality=90)
    data = stream.getvalue() + stream.getvalue()[:5000]
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[..., ::-1]
    opened = open_image(data, LIMITS)
    np.testing.assert_array_equal(opened.load(False).pixels, expected)
    assert opened.load_smaller is not None
    smaller, whole = opened.load_smaller(False, 2).pixels, np.ascontiguousarray(expected)
    assert np.abs(crop_smaller(smaller, None, opened.upright_size).astype(int) - crop(whole)).mean() < 5
