"""Files as people have them: which are decoded, to which pixels, and what is said of those that are not."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from cocoer_bls.decoding import DecodeLimits, decode, read_image
from cocoer_bls.errors import InputError
from tests import hostile
from tests.conftest import DATA
from tests.hostile import bmp

LIMITS = DecodeLimits(max_bytes=5_000_000, max_pixels=1_000_000)
FILES = DATA / "images"


def opencvs(data: bytes) -> np.ndarray:
    """OpenCV's pixels of a file; of whole files only, because damaged ones can crash it."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def refusal(data: bytes, limits: DecodeLimits = LIMITS) -> InputError:
    with pytest.raises(InputError) as caught:
        decode(data, limits)
    return caught.value


@pytest.mark.parametrize(
    "name",
    [
        "motion_photo_tail.jpg",
        "png_bad_crc_text.png",
        "png_short_gama.png",
        "png_big_icc.png",
        "jfif_empty_app0_repl.jpg",
        "xmp_orientation_only.jpg",
    ],
)
def test_what_every_viewer_shows_is_opencvs(name):
    decoded = read_image((FILES / name).read_bytes(), LIMITS)
    assert decoded.damage is None
    assert decoded.pixels.shape == (64, 96, 3)
    np.testing.assert_array_equal(decoded.pixels, cv2.imread(str(FILES / name)))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("no_eoi.jpg", "the file ends without an end marker"),
        ("half_eoi.jpg", "its image data ends too early, and about 48% of the image (its lower part) is missing"),
    ],
)
def test_a_damaged_jpeg_is_refused_or_marked(name, what):
    data = (FILES / name).read_bytes()
    error = refusal(data)
    assert error.reason == "damaged"
    assert f"IMAGE is damaged: {what}" in str(error)
    assert "on_damage to accept" in str(error)
    decoded = read_image(data, LIMITS, accept_damage=True)
    assert decoded.damage.startswith(what)
    np.testing.assert_array_equal(decoded.pixels, cv2.imread(str(FILES / name)))


def test_a_webp_that_lacks_a_byte_is_damaged():
    data = (FILES / "webp_cut_1_byte.webp").read_bytes()
    error = refusal(data)
    assert error.reason == "damaged"
    assert "1 of 2242 bytes are missing" in str(error)
    decoded = read_image(data, LIMITS, accept_damage=True)
    whole = opencvs(data + b"\0")
    assert decoded.damage.endswith("1 of 2242 bytes are missing")
    np.testing.assert_array_equal(decoded.pixels[:48], whole[:48])


def test_unusual_bit_masks():
    """The image of the other files, with its channels in other bits; OpenCV takes the masks for the usual ones."""
    data = (FILES / "bmp32_bitfields_unusual.bmp").read_bytes()
    np.testing.assert_array_equal(decode(data, LIMITS), cv2.imread(str(FILES / "png_big_icc.png")))


def jpeg(**options) -> bytes:
    return hostile.save(hostile.image(), "JPEG", **options)


def segment(code: int, content: bytes) -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(content) + 2) + content


def tiff(orientation: int, order: str = "II") -> bytes:
    """A TIFF structure with one entry."""
    end = "<" if order == "II" else ">"
    entry = struct.pack(f"{end}HHIHH", 0x0112, 3, 1, orientation, 0)
    return order.encode() + struct.pack(f"{end}HIH", 42, 8, 1) + entry + bytes(4)


XMP = (
    b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/'
    b'22-rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF>'
    b"</x:xmpmeta>"
)
EXIF = b"Exif\0\0"


@pytest.mark.parametrize(
    ("segments", "size"),
    [
        ([EXIF + tiff(6)], (36, 48)),
        ([EXIF + tiff(6, "MM")], (36, 48)),
        ([EXIF + tiff(1), EXIF + tiff(6)], (48, 36)),
        ([EXIF + tiff(6), EXIF + tiff(1)], (36, 48)),
        ([EXIF + EXIF + tiff(6)], (48, 36)),
        ([XMP], (48, 36)),
        ([EXIF + tiff(1), XMP], (48, 36)),
        ([EXIF + tiff(9)], (48, 36)),
        ([EXIF + tiff(6)[:14]], (48, 36)),
        ([EXIF], (48, 36)),
    ],
)
def test_orientation_is_the_first_exifs(segments, size):
    """As OpenCV, and browsers, turn it."""
    whole = jpeg()
    data = whole[:20] + b"".join(segment(0xE1, content) for content in segments) + whole[20:]
    pixels = decode(data, LIMITS)
    assert pixels.shape[1::-1] == size
    np.testing.assert_array_equal(pixels, opencvs(data))


def test_exif_behind_xmp_counts():
    """OpenCV looks at the first segment alone; browsers don't."""
    whole = jpeg()
    data = whole[:20] + segment(0xE1, XMP) + segment(0xE1, EXIF + tiff(6)) + whole[20:]
    assert decode(data, LIMITS).shape == (48, 36, 3)


WHOLE = jpeg()
HARMLESS = {
    "a profile full of scan markers": WHOLE[:20] + segment(0xE2, b"ICC_PROFILE\0\1\1" + b"\xff\xda" * 500) + WHOLE[20:],
    "a video behind": WHOLE + b"\0\0\0\x18ftypmp42" + b"\xff\xda\xff\xd8" * 500,
    "a second image behind": WHOLE + jpeg(quality=10),
    "a second image that is cut": WHOLE + WHOLE[:500],
    "no JFIF": WHOLE[:2] + WHOLE[20:],
    "a short JFIF": WHOLE[:2] + segment(0xE0, b"JFIF\0\1\1\0") + WHOLE[20:],
    "a newer JFIF": WHOLE[:2] + segment(0xE0, b"JFIF\0\3\1\0\0\1\0\1\0\0") + WHOLE[20:],
    "padding before the end": WHOLE[:-2] + bytes(40) + WHOLE[-2:],
    "fill bytes": WHOLE[:20] + b"\xff" * 30 + WHOLE[20:],
    "a thumbnail": WHOLE[:20] + segment(0xE1, EXIF + tiff(1) + jpeg(quality=5)) + WHOLE[20:],
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_not_a_jpegs_pixels_is_not_judged(name):
    np.testing.assert_array_equal(decode(HARMLESS[name], LIMITS), opencvs(WHOLE))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"restart_marker_blocks": 2}]
)
@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_a_cut_jpeg_is_damaged_with_and_without_end_marker(options, ended, share, tmp_path):
    whole = hostile.save(hostile.image(160, 120), "JPEG", **options)
    data = whole[: round(len(whole) * share)].rstrip(b"\xff") + (b"\xff\xd9" if ended else b"")
    assert refusal(data).reason == "damaged"
    (tmp_path / "cut.jpg").write_bytes(data)
    decoded = read_image(data, LIMITS, accept_damage=True)
    assert decoded.damage
    np.testing.assert_array_equal(decoded.pixels, cv2.imread(str(tmp_path / "cut.jpg")))


def test_missing_scans_are_damage():
    whole = jpeg(progressive=True)
    data = whole[: whole.rindex(b"\xff\xda")] + b"\xff\xd9"
    assert "scans are missing" in str(refusal(data))
    np.testing.assert_array_equal(read_image(data, LIMITS, accept_damage=True).pixels, opencvs(data))


def with_frame(code: int = 0xC0, bits: int = 8) -> bytes:
    at = WHOLE.index(b"\xff\xc0")
    return WHOLE[: at + 1] + bytes([code]) + WHOLE[at + 2 : at + 4] + bytes([bits]) + WHOLE[at + 5 :]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (with_frame(bits=12), "12 bits a sample"),
        (with_frame(code=0xC1, bits=12), "12 bits a sample"),
        (with_frame(code=0xC3), "lossless"),
        (with_frame(code=0xC5), "hierarchical"),
        (hostile.resized_jpeg(WHOLE, 48, 0), "its header has no height"),
    ],
)
def test_kinds_of_jpeg_that_cannot_be_read_are_named(data, kind):
    error = refusal(data)
    assert error.reason == "format"
    assert f"a JPEG of a kind that can't be read ({kind})" in str(error)


def png(*chunks: tuple[bytes, bytes], cut: int = 0, wrong: bytes = b"", size=(5, 4), colour=2) -> bytes:
    """A PNG with chunks before its data; ``wrong`` names a chunk whose checksum is wrong."""
    width, height = size
    rows = b"".join(b"\0" + bytes((x * 7 + y * 31) % 256 for x in range(3 * width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    out = b"\x89PNG\r\n\x1a\n"
    for kind, content in [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]:
        chunk = hostile.png_chunk(kind, content)
        out += chunk[:-4] + (b"oops" if kind == wrong else chunk[-4:])
    return out[: len(out) - cut]


BOMB = zlib.compress(bytes(8_000_000))


@pytest.mark.parametrize(
    "data",
    [
        *(png((kind, b"x\0\0y"), wrong=kind) for kind in (b"tEXt", b"tIME", b"iCCP", b"gAMA", b"abCd", b"eXIf")),
        *(png((kind, b"x")) for kind in (b"gAMA", b"pHYs", b"cHRM", b"sRGB", b"tIME", b"bKGD", b"eXIf", b"acTL")),
        png((b"iCCP", b"icc\0\0" + BOMB)),
        png((b"zTXt", b"k\0\0" + BOMB)),
        png((b"iTXt", b"k\0\1\0\0\0" + BOMB)),
        png() + b"junk",
    ],
)
def test_what_is_not_a_pngs_pixels_is_not_judged(data):
    np.testing.assert_array_equal(decode(data, LIMITS), opencvs(png()))


@pytest.mark.parametrize(
    ("data", "what", "usable"),
    [
        (png(wrong=b"IHDR"), "its header has a wrong checksum", False),
        (png(wrong=b"IDAT"), "its image data has a wrong checksum", True),
        (png(cut=12), "the file ends without an end marker (IEND)", True),
        (png(cut=10), "the file ends without an end marker (IEND)", True),
        (png(cut=1), "the file ends without an end marker (IEND)", True),
    ],
)
def test_damaged_pngs(data, what, usable):
    error = refusal(data)
    assert error.reason == "damaged"
    assert what in str(error)
    if usable:
        decoded = read_image(data, LIMITS, accept_damage=True)
        assert decoded.damage == what
        np.testing.assert_array_equal(decoded.pixels, opencvs(png()))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_of_a_cut_png_the_rows_that_are_there_are_taken(mode):
    whole = hostile.save(hostile.image(60, 80, mode), "PNG")
    decoded = read_image(whole[: len(whole) * 2 // 3], LIMITS, accept_damage=True)
    assert decoded.damage is not None
    assert "the file ends inside its image data" in decoded.damage
    np.testing.assert_array_equal(decoded.pixels[:30], opencvs(whole)[:30])
    assert len(np.unique(decoded.pixels[-5:].reshape(-1, 3), axis=0)) == 1


NOISE = np.random.default_rng(5).bytes(200)


@pytest.mark.parametrize("height", [4, -4])
@pytest.mark.parametrize("bits", [1, 4, 8, 24, 32])
def test_bmp_is_opencvs(bits, height):
    data = bmp(bits, NOISE[: (5 * bits + 31) // 32 * 16], height=height)
    np.testing.assert_array_equal(decode(data, LIMITS), opencvs(data))


@pytest.mark.parametrize("height", [4, -4])
@pytest.mark.parametrize("size", [40, 52, 56, 108, 124])
@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0xF800, 0x07E0, 0x1F, 0)),
        (16, (0x7C00, 0x03E0, 0x1F, 0x8000)),
        (16, (0x0F00, 0x00F0, 0x0F, 0xF000)),
        (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
        (32, (0xFFC00000, 0x003FF800, 0x7FE, 0)),
    ],
)
def test_bit_masks(bits, masks, size, height):
    """By hand: each channel's bits, as a share of the largest value, times 255."""
    rows = NOISE[: (5 * bits + 31) // 32 * 16]
    data = bmp(bits, rows, struct.pack("<IIII", *masks)[: 12 if size <= 52 else 16], 3, size, height)
    stride = len(rows) // 4
    pixels = decode(data, LIMITS)
    for y in range(4):
        line = rows[y * stride :] if height < 0 else rows[(3 - y) * stride :]
        for x in range(5):
            value = int.from_bytes(line[x * bits // 8 :][: bits // 8], "little")
            shares = [(value & mask) / mask for mask in masks[:3]]
            assert np.abs(pixels[y, x, ::-1] - 255 * np.array(shares)).max() <= 1


@pytest.mark.parametrize(
    ("bits", "compression", "rows"),
    [
        (8, 1, b"\5\1\0\0\2\7\0\3\1\2\3\0\0\0\1\4\0\2\2\0\2\5\0\0\5\6\0\1"),
        (8, 1, b"\5\1\0\0\5\2\0\0\5\3\0\0\5\4\0\1"),
        (4, 2, b"\5\x12\0\0\2\x34\0\3\x12\x30\0\0\5\x56\0\0\5\x78\0\1"),
    ],
)
def test_run_lengths_are_opencvs(bits, compression, rows):
    data = bmp(bits, rows, compression=compression)
    np.testing.assert_array_equal(decode(data, LIMITS), opencvs(data))


def test_a_bmp_whose_palette_is_left_out_of_account():
    """Its pixels are said to begin where its palette does: as Pillow takes it."""
    whole = hostile.save(hostile.image(mode="P"), "BMP")
    data = whole[:10] + struct.pack("<I", 54) + whole[14:]
    np.testing.assert_array_equal(decode(data, LIMITS), decode(whole, LIMITS))


def test_a_cut_bmp():
    whole = hostile.save(hostile.image(), "BMP")
    data = whole[: len(whole) // 2]
    assert "its upper part) is missing" in str(refusal(data))
    decoded = read_image(data, LIMITS, accept_damage=True)
    np.testing.assert_array_equal(decoded.pixels[-17:], opencvs(whole)[-17:])


@pytest.mark.parametrize(("bits", "compression"), [(24, 5), (24, 4), (3, 0), (8, 2), (24, 9)])
def test_kinds_of_bmp_that_cannot_be_read_are_named(bits, compression):
    assert "a BMP of a kind that can't be read (" in str(refusal(bmp(bits, NOISE, compression=compression)))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50), "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(50), "AVIF"),
        (b"\xff\x0a" + bytes(50), "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), "JPEG 2000"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video"),
        *((hostile.save(hostile.image(), form), form) for form in ("GIF", "TIFF", "ICO")),
        (b"<?xml version='1.0'?><svg/>", "SVG"),
    ],
)
def test_other_formats_are_named_with_what_to_do(data, name):
    error = refusal(data)
    assert error.reason == "format"
    assert f" {name} file, not an image in JPEG, PNG, WebP or BMP format; convert it to JPEG or PNG" in str(error)
    assert ("allow it" in str(error)) == (name in ("HEIC", "AVIF"))


RISING = np.add.outer(np.arange(48) * 2, np.arange(64) * 2)[..., None] + [0, 9, 30]
SLOPE = Image.fromarray(RISING.clip(0, 255).astype(np.uint8))


def heic(path: Path, quality: int) -> bytes:
    pillow_heif.from_pillow(SLOPE).save(path, quality=quality)
    return path.read_bytes()


def test_heic_and_avif_can_be_allowed(tmp_path):
    allowed = DecodeLimits(10**6, 64 * 48, ("JPEG", "HEIC", "AVIF"))
    stream = io.BytesIO()
    SLOPE.save(stream, "AVIF", quality=95)
    expected = np.asarray(SLOPE)[..., ::-1].astype(int)
    for data in (heic(tmp_path / "a.heic", 95), stream.getvalue()):
        assert np.abs(decode(data, allowed) - expected).mean() < 3
        assert refusal(data, DecodeLimits(10**6, 64 * 48 - 1, ("HEIC", "AVIF"))).reason == "pixels"
        assert refusal(data[: len(data) * 2 // 3], allowed).reason in ("damaged", "format")


def test_avif_is_turned_by_its_container():
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    hostile.image(64, 48).save(stream, "AVIF", exif=exif)
    assert decode(stream.getvalue(), DecodeLimits(10**6, 10**6, ("AVIF",))).shape == (64, 48, 3)


def test_heic_without_its_decoder_is_refused_at_once(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="HEIC needs the package pillow-heif; install it"):
        DecodeLimits(1, 1, ("HEIC",))
