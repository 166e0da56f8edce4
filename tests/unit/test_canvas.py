"""What images are decoded into: the same crops, letterboxes and greys as from three bytes a pixel, without copies."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from cocoer_bls.decoding import FORMATS, DecodeLimits, canvas, decode
from cocoer_bls.haar import HaarDetector
from cocoer_bls.images import _for_pillow, crop, letterbox
from tests import hostile
from tests.conftest import run_python

LIMITS = DecodeLimits(max_bytes=5_000_000, max_pixels=10_000_000, formats=FORMATS)


def on_canvas(image: np.ndarray) -> np.ndarray:
    pixels = canvas.canvas(*image.shape[:2])
    pixels[...] = image
    return pixels


MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "L", "P", "I;16", "RGBA"),
    "BMP": ("RGB", "L", "P", "RGBA"),
    "WEBP": ("RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
}


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form, modes in MODES.items() for mode in modes])
def test_every_decoder_gives_a_canvas(form, mode):
    pixels = decode(hostile.save(hostile.image(mode=mode), form), LIMITS)
    assert canvas.padded(pixels) is not None
    assert pixels.shape == (36, 48, 3)


def test_what_is_no_canvas_is_not_taken_for_one(rng):
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    whole = on_canvas(image)
    for other in (image, whole[1:], whole[:, ::-1], whole[::-1], whole[:, 1:], whole[..., ::-1], image.copy()):
        assert canvas.padded(other) is None


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (223, 1000), (3000, 40), (1, 1), (700, 224)])
def test_crops_and_letterboxes_are_the_same(size, rng):
    width, height = size
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    whole = on_canvas(image)
    np.testing.assert_array_equal(letterbox(whole)[0], letterbox(image)[0])
    corners = [sorted(rng.integers(0, (width, height), (2, 2)), key=tuple) for _ in range(20)]
    boxes = [(min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]) + 1, max(a[1], b[1]) + 1) for a, b in corners]
    # To the right and lower ends, where a row of the box reaches into what is behind the image.
    for box in [None, (0, 0, width, height), (width - 1, 0, width, height), (0, height - 1, width, height), *boxes]:
        np.testing.assert_array_equal(crop(whole, box), crop(image, box))


def test_a_box_of_a_canvas_is_not_copied(rng):
    whole = on_canvas(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    seen = _for_pillow(whole, (5, 4, 30, 20))
    whole[4, 5] = 7, 8, 9
    assert seen.getpixel((0, 0)) == (7, 8, 9)
    assert seen.size == (25, 16)
    np.testing.assert_array_equal(np.asarray(seen), whole[4:20, 5:30])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_by_numpy(orientation, rng):
    image = rng.integers(0, 256, (37, 53, 3), dtype=np.uint8)
    turned = canvas.upright(on_canvas(image), orientation)
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    np.testing.assert_array_equal(turned, image)
    assert canvas.padded(turned) is not None


def test_images_of_more_than_a_strip():
    """Rows at the edges of strips are neither lost nor doubled."""
    image = hostile.image(700, 900)
    np.testing.assert_array_equal(canvas.from_pillow(image), np.asarray(image)[..., ::-1])
    data = hostile.save(image.convert("CMYK"), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened.convert("RGB"))[..., ::-1]
    np.testing.assert_array_equal(decode(data, LIMITS), expected)
    rows = hostile.image(1100, 1000)
    np.testing.assert_array_equal(decode(hostile.save(rows, "BMP"), LIMITS), np.asarray(rows)[..., ::-1])


def test_grey_of_four_bytes_is_that_of_three(rng):
    image = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
    four = canvas.four_bytes(on_canvas(image))
    np.testing.assert_array_equal(cv2.cvtColor(four, cv2.COLOR_BGRA2GRAY), cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


def test_the_face_cascade_finds_the_same(sample_bgr):
    detector = HaarDetector()
    image = np.ascontiguousarray(sample_bgr)
    assert detector(on_canvas(image)) == detector(image) != []


def test_pillow_keeps_no_large_blocks():
    """A server that is told to by its environment would hold images of before: as the client's commands have it."""
    script = "import cocoer_bls.decoding.canvas; from PIL import Image; print(Image.core.get_blocks_max())"
    assert run_python("-c", script, PILLOW_BLOCKS_MAX="12").stdout == "0\n"
