"""Decoding, letterbox and crops against OpenCV and Pillow."""

import hashlib
import io
import struct
import zlib

import cv2
import numpy as np
import PIL
import pytest
from PIL import Image

from cocoer_bls.errors import InputError
from cocoer_bls.images import DecodeLimits, crop, decode, letterbox

LIMITS = DecodeLimits(max_bytes=5_000_000, max_pixels=1_000_000)


def encoded(array_rgb: np.ndarray, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array_rgb).save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "WEBP"])
def test_lossless_formats(form, rng):
    array = rng.integers(0, 256, (37, 53, 3), dtype=np.uint8)
    options = {"lossless": True} if form == "WEBP" else {}
    np.testing.assert_array_equal(decode(encoded(array, form, **options), LIMITS), array[..., ::-1])


def test_jpeg_is_opencvs(sample_bgr):
    data = encoded(sample_bgr[..., ::-1], "JPEG", quality=90)
    np.testing.assert_array_equal(decode(data, LIMITS), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


def test_orientation_is_applied(rng):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter
    array = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert decode(encoded(array, "JPEG", exif=exif), LIMITS).shape == (30, 20, 3)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16", "1"])
def test_other_modes_become_bgr(mode):
    stream = io.BytesIO()
    Image.new(mode, (9, 7)).save(stream, "PNG")
    image = decode(stream.getvalue(), LIMITS)
    assert image.shape == (7, 9, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "IMAGE is empty"),
        (b"hello", "not an image in JPEG, PNG, WebP or BMP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%PDF-1.7", "not an image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not an image"),
    ],
)
def test_not_a_image(data, message):
    with pytest.raises(InputError, match=message):
        decode(data, LIMITS)


def test_gif_is_not_on_the_list():
    with pytest.raises(InputError, match="not an image"):
        decode(encoded(np.zeros((5, 5, 3), np.uint8), "GIF"), LIMITS)


def test_cut_short(sample_bytes, sample_bgr):
    with pytest.raises(InputError, match="damaged"):
        decode(sample_bytes[:4000], LIMITS)
    jpeg = encoded(sample_bgr[..., ::-1], "JPEG")
    with pytest.raises(InputError, match="damaged"):
        decode(jpeg[: int(0.9 * len(jpeg))], LIMITS)


def test_size_is_checked_in_the_header():
    """The file claims 50,000 x 50,000 and holds next to nothing: nothing is decoded."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10)))
    with pytest.raises(InputError, match="pixels; scale it down"):
        decode(data, LIMITS)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_limit_is_the_callers(rng):
    data = encoded(np.zeros((100, 101, 3), np.uint8), "PNG")
    assert decode(data, DecodeLimits(5000, 10_100)).shape == (100, 101, 3)
    with pytest.raises(InputError, match="101x100, more than the allowed 10099 pixels"):
        decode(data, DecodeLimits(5000, 10_099))


@pytest.mark.parametrize("size", [(512, 512), (1920, 1080), (333, 720), (641, 640), (1, 1), (3, 2000)])
def test_letterbox(size):
    width, height = size
    image = np.full((height, width, 3), 255, dtype=np.uint8)
    canvas, scale = letterbox(image)
    assert canvas.shape == (640, 640, 3)
    used = np.argwhere(canvas.any(axis=2)).max(axis=0) + 1
    assert max(used) == 640
    assert scale == used[0] / height
    assert not canvas[used[0] :].any()
    assert not canvas[:, used[1] :].any()


@pytest.mark.parametrize("size", [(512, 512), (640, 480), (480, 640), (333, 720), (641, 640), (3, 2000)])
@pytest.mark.parametrize("form", ["JPEG", "array"])
def test_letterboxes_are_filled_in_place(size, form, rng):
    """Whatever was there before, and the same of a decoded image as of any array."""
    width, height = size
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if form == "JPEG":
        image = decode(encoded(image, "JPEG"), LIMITS)
    square = np.full((640, 640, 3), 77, dtype=np.uint8)
    filled, scale = letterbox(image, square=square)
    assert filled is square
    used = (round(height * scale), max(1, int(640 * width / height)) if height > width else 640)
    expected = np.zeros((640, 640, 3), dtype=np.uint8)
    expected[: used[0], : used[1]] = cv2.resize(np.ascontiguousarray(image), (used[1], used[0]))
    np.testing.assert_array_equal(square, expected)


@pytest.mark.skipif(PIL.__version__ < "13", reason="older versions of Pillow round in another order; see the next test")
def test_crops_are_pillows_byte_for_byte(sample_bgr, rng):
    """Pillow's own crop and resize of the RGB image, channels swapped afterwards."""
    image = Image.fromarray(np.ascontiguousarray(sample_bgr[..., ::-1]))
    boxes = [(0, 0, 512, 512), (94, 20, 400, 512), (177, 66, 272, 161), (500, 500, 501, 501)]
    corners = np.sort(rng.integers(0, 512, (100, 2, 2)), axis=1).reshape(-1, 4)
    boxes += [tuple(int(v) for v in box) for box in corners if box[0] < box[2] and box[1] < box[3]]
    for box in boxes:
        expected = np.asarray(image.crop(box).resize((224, 224), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(crop(sample_bgr, box), expected[..., ::-1])


@pytest.mark.skipif(PIL.__version__ < "13", reason="older versions of Pillow round in another order; see the next test")
@pytest.mark.parametrize("width", [1, 223, 224, 225, 640, 1080, 3000])
def test_order_of_passes_is_pillows(width, rng):
    """Just below and above the height from which it turns, and far off."""
    turn = max(224, 2 * width - 224)
    for height in (1, 100, turn - 1, turn, turn + 1, turn + 2, 2 * turn):
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = np.asarray(Image.fromarray(noise).resize((224, 224), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(crop(noise), expected)


def test_crops_of_the_golden_image(sample_bgr, golden):
    """Digest of Pillow 13's crops, the ones the golden files were made with; holds whatever Pillow is installed."""
    boxes = np.concatenate([golden(0)["body_box"], golden(0)["head_box"]])
    pixels = b"".join(crop(sample_bgr, tuple(int(v) for v in box)).tobytes() for box in boxes)
    assert hashlib.sha256(pixels).hexdigest()[:16] == "fbde18ccbfe36897"
