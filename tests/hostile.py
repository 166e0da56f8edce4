"""Files a server must survive: a corpus with the answer each deserves, and mutations without end."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

GOOD = ""
"""The verdict on a file that is decoded."""


@dataclass(frozen=True)
class Sample:
    """A file, and what must become of it: ``GOOD``, or a reason of ``cocoer_bls.errors.REASONS``."""

    name: str
    data: bytes
    verdict: str = GOOD
    size: tuple[int, int] | None = None
    """Width and height it is decoded to."""


def image(width: int = 48, height: int = 36, mode: str = "RGB") -> Image.Image:
    """Noise over a slope: no two pixels are alike, so that an error shows."""
    rng = np.random.default_rng(width * 1000 + height)
    slope = np.linspace(0, 180, width)[None, :, None] + np.zeros((height, 1, 3))
    return Image.fromarray((slope + rng.integers(0, 70, (height, width, 3))).astype(np.uint8)).convert(mode)


def seen_through() -> Image.Image:
    """The same, with each opacity: an encoder leaves out alpha that is 255 everywhere."""
    clear = image(mode="RGBA")
    clear.putalpha(image(mode="L"))
    return clear


def save(image: Image.Image, form: str, **options: object) -> bytes:
    """The bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width: int, height: int) -> bytes:
    """Signature and IHDR: 8-bit RGB of any size."""
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def resized_jpeg(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header claims another size."""
    at = next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC2))
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def scan_bomb(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: few bytes, a pass over the image for each."""
    data = save(image(width, height), "JPEG", progressive=True)
    start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[start:end] * scans + data[end:]


def webp_claiming(side: int) -> bytes:
    """An extended WebP with a canvas of ``side`` squared and nothing on it."""
    canvas = struct.pack("<I", 0x10)[:4] + struct.pack("<I", side - 1)[:3] * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


def oriented(form: str) -> Sample:
    """A file that is to be turned a quarter."""
    return Sample(f"{form} with EXIF orientation", save(image(48, 36), form, exif=turning(6)), size=(36, 48))


def turning(orientation: int) -> Image.Exif:
    """EXIF that says how an image is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png_of(pixels: np.ndarray, interlaced: bool = False) -> bytes:
    """A PNG of kinds that Pillow doesn't write: 16 bits a sample, alpha beside them, interlaced.

    Args:
        pixels: UINT8 or UINT16 [height, width, channels], of 1 to 4 channels: grey, with alpha, RGB, with alpha.
        interlaced: by Adam7.
    """
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, colour, 0, 0, interlaced)
    passes = [pixels[y::dy, x::dx] for x, y, dx, dy in (_ADAM7 if interlaced else ((0, 0, 1, 1),))]
    coded = pixels.dtype.newbyteorder(">")
    rows = b"".join(b"\0" + row.astype(coded).tobytes() for part in passes if part.size for row in part)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def bmp(bits: int, rows: bytes, masks: bytes = b"", compression: int = 0, size: int = 40, height: int = 4) -> bytes:
    """A BMP 5 pixels wide; ``masks`` are behind, or, from version 4 on, inside the header."""
    header = struct.pack("<IiiHHIIiiII", size, 5, height, 1, bits, compression, len(rows), 0, 0, 0, 0)
    header = (header + masks).ljust(size, b"\0")
    palette = bytes(range(4 << bits)) if bits <= 4 else bytes(i % 256 for i in range(4 << 8)) if bits == 8 else b""
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + header + palette + rows


def to_be_smaller() -> list[Sample]:
    """JPEGs that are large enough for ``fast_decode``, each way they may be written; of few bytes."""
    size = (450, 449)

    def sample(name: str, mode: str = "RGB", form: str = "JPEG", **how: object) -> Sample:
        return Sample(
            f"larger JPEG, {name}", save(image(24, 18, mode).resize(size), form, quality=50, **how), size=size
        )

    turned = save(image(24, 18).resize((900, 897)), "JPEG", quality=25, exif=turning(8))
    return [
        sample("4:2:0"),
        *(sample(name, subsampling=name) for name in ("4:2:2", "4:4:4")),
        sample("RGB", keep_rgb=True),
        sample("progressive", progressive=True),
        sample("grey", "L"),
        sample("CMYK", "CMYK"),
        sample("CMYK, progressive", "CMYK", progressive=True),
        sample("restarts", restart_marker_rows=1),
        sample("two images", form="MPO", save_all=True, append_images=[image()]),
        Sample("larger JPEG, turned by EXIF", turned, size=(897, 900)),
    ]


def good_samples() -> list[Sample]:
    """What is decoded, each format and colour model."""
    frames, rgb = [image(), image().rotate(180)], np.asarray(image())
    animated = {"save_all": True, "append_images": frames[1:], "duration": 100}

    def deep(channels: int) -> np.ndarray:
        return np.concatenate([rgb, rgb], axis=2)[..., :channels].astype(np.uint16) * 257

    samples = [
        Sample("JPEG", save(image(), "JPEG")),
        Sample("progressive JPEG", save(image(), "JPEG", progressive=True)),
        Sample("grey JPEG", save(image(mode="L"), "JPEG")),
        Sample("CMYK JPEG", save(image(mode="CMYK"), "JPEG")),
        *(
            Sample(f"PNG {mode}", save(image(mode=mode), "PNG"))
            for mode in ("RGB", "L", "LA", "RGBA", "P", "I;16", "1")
        ),
        Sample("PNG of 4 colours", save(image().quantize(4), "PNG", bits=2)),
        Sample("PNG of colours that are transparent", save(image().quantize(16), "PNG", transparency=bytes(range(16)))),
        *(Sample(f"PNG of 16 bits, {channels} channels", png_of(deep(channels))) for channels in (2, 3, 4)),
        *(Sample(f"interlaced PNG of {pixels.dtype}", png_of(pixels, True)) for pixels in (deep(1), rgb)),
        Sample("animated PNG", save(frames[0], "PNG", **animated)),
        Sample("lossy WebP", save(image(), "WEBP")),
        Sample("lossless WebP", save(image(), "WEBP", lossless=True)),
        *(Sample(f"WebP with alpha {how}", save(seen_through(), "WEBP", **how)) for how in ({}, {"lossless": True})),
        Sample("animated WebP", save(frames[0], "WEBP", **animated)),
        *(Sample(f"BMP {mode}", save(image(mode=mode), "BMP")) for mode in ("RGB", "L", "P", "1", "RGBA")),
    ]
    sized = [
        *(Sample(f"{form} 1x1", save(image(1, 1), form), size=(1, 1)) for form in ("JPEG", "PNG", "WEBP", "BMP")),
        Sample("PNG 1x20000", save(image(1, 20000), "PNG"), size=(1, 20000)),
        Sample("JPEG 20000x1", save(image(20000, 1), "JPEG"), size=(20000, 1)),
        *(oriented(form) for form in ("JPEG", "PNG", "WEBP")),
        Sample("JPEG with a ZIP behind", save(image(), "JPEG") + b"PK\x05\x06" + bytes(18), size=(48, 36)),
        Sample(
            "JPEG with HTML in a comment", save(image(), "JPEG", comment=b"<script>alert(1)</script>"), size=(48, 36)
        ),
        Sample("PNG with junk behind", save(image(), "PNG") + b"junk" * 100, size=(48, 36)),
        Sample("JPEG with a video behind", save(image(), "JPEG") + b"\xff\xda" * 500, size=(48, 36)),
        Sample("BMP of bit masks", bmp(16, bytes(range(48)), struct.pack("<III", 0xF800, 0x7E0, 0x1F), 3), size=(5, 4)),
        Sample("BMP of run lengths", bmp(8, b"\5\1\0\0\2\7\0\3\1\2\3\0\0\0\5\4\0\1", compression=1), size=(5, 4)),
    ]
    return [Sample(one.name, one.data, size=(48, 36)) for one in samples] + sized + to_be_smaller()


def bad_samples() -> list[Sample]:
    """What is refused, and why."""
    jpeg, png, bmp, webp = (save(image(), form) for form in ("JPEG", "PNG", "BMP", "WEBP"))
    huge_bmp = bmp[:18] + struct.pack("<ii", 50_000, 50_000) + bmp[26:]
    html = b"<!doctype html><html><body><img src=x onerror=alert(1)></body></html>"
    return [
        Sample("nothing", b"", "empty"),
        Sample("zeros", bytes(1000), "format"),
        Sample("one byte", b"\xff", "format"),
        *(Sample(form, save(image(), form), "format") for form in ("GIF", "TIFF", "ICO", "PPM", "TGA", "PDF", "EPS")),
        Sample("SVG", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "format"),
        Sample("HTML", html, "format"),
        Sample("ZIP", b"PK\x03\x04" + bytes(100), "format"),
        Sample("pickle", b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.", "format"),
        Sample("JPEG behind HTML", html + jpeg, "format"),
        Sample("JPEG behind a GIF's header", b"GIF89a" + jpeg, "format"),
        Sample("PNG's magic on a JPEG", png[:8] + jpeg, "format"),
        Sample("JPEG's magic on noise", jpeg[:4] + np.random.default_rng(0).bytes(2000), "damaged"),
        Sample("JPEG that claims more than it holds", resized_jpeg(jpeg, 480, 360), "damaged"),
        Sample("half a JPEG with an end marker", jpeg[: len(jpeg) // 2] + b"\xff\xd9", "damaged"),
        Sample("JPEG of a million segments", jpeg[:2] + b"\xff\xfe\0\2" * 1_000_000 + jpeg[2:], "damaged"),
        Sample("PNG without its last 10 bytes", png[:-10], "damaged"),
        Sample("WebP without its last byte", webp[:-1], "damaged"),
        Sample("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50), "format"),
        Sample("PNG of 50,000 squared", png_header(50_000, 50_000) + png_chunk(b"IDAT", b""), "pixels"),
        Sample("PNG of 2**31 squared", png_header(2**31 - 1, 2**31 - 1), "format"),
        Sample("JPEG of 50,000 squared", resized_jpeg(jpeg, 50_000, 50_000), "pixels"),
        Sample("BMP of 50,000 squared", huge_bmp, "pixels"),
        Sample("PNG without pixels", png_header(0, 5), "format"),
        Sample("PNG without data", png_header(48, 36) + png_chunk(b"IEND", b""), "damaged"),
        Sample("WebP of 16,384 squared, empty", webp_claiming(16_384), "pixels"),
        Sample("JPEG of 200 scans", scan_bomb(64, 64, 200), "scans"),
        *(
            Sample(f"{form} cut short", data[: len(data) * 9 // 10], "damaged")
            for form, data in (("JPEG", jpeg), ("PNG", png), ("BMP", bmp))
        ),
        Sample("WebP cut short", webp[: len(webp) * 9 // 10], "damaged"),
        Sample("40 MB of noise", np.random.default_rng(1).bytes(40_000_000), "bytes"),
        Sample("PNG with 40 MB of noise behind", png + np.random.default_rng(2).bytes(40_000_000), "bytes"),
    ]


def mutations(seed: int, more: Sequence[bytes] = ()) -> Iterator[bytes]:
    """Damaged files, endlessly: the same ones for the same seed.

    Args:
        seed: which ones.
        more: files that are damaged as well as those of the corpus.
    """
    rng = np.random.default_rng(seed)
    bases = [*(sample.data for sample in good_samples() if len(sample.data) < 20_000), *more]
    while True:
        data = bytearray(bases[rng.integers(len(bases))])
        for _ in range(rng.integers(1, 5)):
            data = _MUTATIONS[rng.integers(len(_MUTATIONS))](data, rng, bases)
        yield bytes(data)


def _flip_bits(data: bytearray, rng: np.random.Generator, _bases: list[bytes]) -> bytearray:
    for at in rng.integers(0, max(1, len(data)), rng.integers(1, 9)):
        if len(data):
            data[at] ^= 1 << rng.integers(8)
    return data


def _near_the_start(data: bytearray, rng: np.random.Generator, _bases: list[bytes]) -> bytearray:
    """Where headers are."""
    for at in rng.integers(0, 64, rng.integers(1, 4)):
        if at < len(data):
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.integers(256)])
    return data


def _cut(data: bytearray, rng: np.random.Generator, _bases: list[bytes]) -> bytearray:
    return data[: rng.integers(0, len(data) + 1)]


def _drop(data: bytearray, rng: np.random.Generator, _bases: list[bytes]) -> bytearray:
    start = rng.integers(0, len(data) + 1)
    del data[start : start + rng.integers(1, 64)]
    return data


def _repeat(data: bytearray, rng: np.random.Generator, _bases: list[bytes]) -> bytearray:
    start = rng.integers(0, len(data) + 1)
    piece = data[start : start + rng.integers(1, 200)]
    return data[:start] + piece * int(rng.integers(2, 9)) + data[start:]


def _splice(data: bytearray, rng: np.random.Generator, bases: list[bytes]) -> bytearray:
    other = bases[rng.integers(len(bases))]
    return data[: rng.integers(0, len(data) + 1)] + other[rng.integers(0, len(other)) :]


def _large_number(data: bytearray, rng: np.random.Generator, _bases: list[bytes]) -> bytearray:
    """A length or size somewhere becomes a large, or a negative one."""
    at = rng.integers(0, max(1, len(data) - 4))
    number = int(rng.choice([0, 1, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 50_000]))
    data[at : at + 4] = struct.pack(rng.choice(["<I", ">I"]), number)
    return data


def _noise(data: bytearray, rng: np.random.Generator, _bases: list[bytes]) -> bytearray:
    at = rng.integers(0, len(data) + 1)
    return data[:at] + rng.bytes(int(rng.integers(1, 100))) + data[at:]


_MUTATIONS = (_flip_bits, _near_the_start, _cut, _drop, _repeat, _splice, _large_number, _noise)
