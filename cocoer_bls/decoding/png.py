"""PNG: the chunks that hold pixels, checked, and handed to Pillow alone; no other chunk is unpacked."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from cocoer_bls.decoding.canvas import from_pillow, upright
from cocoer_bls.decoding.exif import orientation_of
from cocoer_bls.decoding.limits import Decoded, DecodeLimits, Opened, damaged, missing, not_an_image, unreadable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and the steps, of each pass of an interlaced image."""
_PIECE = 1 << 16


@dataclass
class _Chunks:
    header: bytes = b""
    palette: bytes = b""
    data: list[memoryview] = field(default_factory=list)
    orientation: int | None = None
    wrong: str | None = None
    """What is wrong with the chunks that matter."""


def read(data: bytes, limits: DecodeLimits) -> Opened:
    """Read the header, and find the chunks that hold pixels; raises InputError."""
    if data[12:16] == b"CgBI":
        raise unreadable("PNG", "written for iPhone apps")
    if data[8:16] != b"\0\0\0\x0dIHDR" or len(data) < 33:
        raise not_an_image(limits)
    width, height, bits, colour, method, filters, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if zlib.crc32(data[12:29]) != int.from_bytes(data[29:33], "big"):
        raise damaged("its header has a wrong checksum", usable=False)
    sized = 0 < width < 2**31 - 1 and 0 < height < 2**31 - 1
    if not sized or bits not in _DEPTHS.get(colour, ()) or method or filters or interlaced > 1:
        raise not_an_image(limits)
    limits.check_size(width, height)
    chunks = _walk(data)
    if colour == 3 and not chunks.palette:
        raise damaged("its palette is missing", usable=False)
    if not chunks.data:
        raise damaged("it holds no image data", usable=False)

    def load(accept: bool) -> Decoded:
        pixels, damage = _decode(chunks, width, height, bits * _CHANNELS[colour], interlaced, accept)
        return Decoded(upright(pixels, chunks.orientation or 1), damage)

    return Opened(width, height, load)


def _walk(data: bytes) -> _Chunks:
    found, at, view = _Chunks(header=data[8:33]), 33, memoryview(data)
    while True:
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            found.wrong = found.wrong or ("the file ends inside its image data" if kind != b"IEND" else _NO_END)
            if kind == b"IDAT":
                found.data.append(view[at + 8 :][:length])
            elif len(kind) < 4 or kind == b"IEND":
                found.wrong = _NO_END if found.data else found.wrong
            return found
        intact = kind in (b"IDAT", b"PLTE", b"eXIf") and zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(
            view[end - 4 : end], "big"
        )
        if kind == b"IEND":
            return found
        if kind == b"PLTE" and not found.palette:
            found.palette = data[at:end]
        elif kind == b"IDAT":
            found.data.append(view[at + 8 : end - 4])
        elif kind == b"eXIf" and found.orientation is None and intact:
            found.orientation = orientation_of(data[at + 8 : end - 4])
        if kind in (b"IDAT", b"PLTE") and not intact:
            what = "image data" if kind == b"IDAT" else "palette"
            found.wrong = found.wrong or f"its {what} has a wrong checksum"
        at = end


_NO_END = "the file ends without an end marker (IEND)"


def _decode(
    chunks: _Chunks, width: int, height: int, bits: int, interlaced: int, accept: bool
) -> tuple[np.ndarray, str | None]:
    stream = b"".join(chunks.data)
    if chunks.wrong is None:
        try:
            return _pixels(chunks, stream), None
        except MemoryError:
            raise
        except Exception:  # decoders of damaged data raise anything
            chunks.wrong = "its image data is garbled or ends too early"
    sizes = _pass_bytes(width, height, bits, interlaced)
    expected = sum(sizes)
    if not accept:
        there = sum(map(len, _inflated(stream, expected)))
        if there == expected and chunks.wrong.startswith("its image data is garbled"):
            return _pixels(chunks, _deflated(stream, expected)), None  # only the checksum of all is wrong
        raise damaged(chunks.wrong + missing(1 - there / expected, "lower"))
    there = sum(map(len, _inflated(stream, expected)))
    whole = there == expected and chunks.wrong.startswith("its image data is garbled")
    damage = None if whole else chunks.wrong + missing(1 - there / expected, "lower")
    try:
        return _pixels(chunks, _deflated(stream, expected)), damage
    except MemoryError:
        raise
    except Exception:
        raise damaged(chunks.wrong, usable=False) from None


def _pixels(chunks: _Chunks, stream: bytes) -> np.ndarray:
    """A PNG of the chunks that matter, through Pillow."""
    parts = [SIGNATURE, chunks.header]
    if chunks.palette:
        parts.append(_chunk(b"PLTE", chunks.palette[8:-4]))
    parts += [_chunk(b"IDAT", stream), _chunk(b"IEND", b"")]
    with Image.open(io.BytesIO(b"".join(parts)), formats=("PNG",)) as image:
        image.load()
        return from_pillow(image)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def _pass_bytes(width: int, height: int, bits: int, interlaced: int) -> list[int]:
    """Bytes of each pass before compression: for each row a filter's number and the pixels."""
    sizes = []
    for x, y, dx, dy in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0 and rows > 0:
            sizes.append(rows * (1 + (columns * bits + 7) // 8))
    return sizes


def _inflated(stream: bytes, expected: int) -> Iterator[bytes]:
    """What can be unpacked, in pieces, and never more than is expected."""
    unpack = zlib.decompressobj()
    for at in range(0, len(stream), 1024):
        piece = stream[at : at + 1024]
        while piece and expected:
            try:
                out = unpack.decompress(piece, min(expected, _PIECE))
            except zlib.error:
                return
            expected -= len(out)
            piece = unpack.unconsumed_tail
            yield out
    if expected:
        try:
            yield unpack.flush()[:expected]
        except zlib.error:
            return


def _deflated(stream: bytes, expected: int) -> bytes:
    """What can be unpacked, filled up with zeros, which are black, and packed anew."""
    pack, parts, there = zlib.compressobj(1), [], 0
    for piece in _inflated(stream, expected):
        parts.append(pack.compress(piece))
        there += len(piece)
    while there < expected:
        rest = min(_PIECE, expected - there)
        parts.append(pack.compress(bytes(rest)))
        there += rest
    return b"".join([*parts, pack.flush()])
