"""WebP: the container's chunks of pixels, handed to libwebp through Pillow."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image

from cocoer_bls.decoding.canvas import from_pillow, upright
from cocoer_bls.decoding.exif import orientation_of
from cocoer_bls.decoding.limits import Decoded, DecodeLimits, Opened, damaged, not_an_image

_PIXELS = (b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L")
_ANIMATION, _ALPHA = 0x02, 0x10
_Chunk = tuple[bytes, bytes | memoryview]
"""Name and content."""


def read(data: bytes, limits: DecodeLimits) -> Opened:
    """Read the header; raises InputError."""
    claimed = 8 + int.from_bytes(data[4:8], "little")
    lacking = claimed - len(data)
    chunks = _chunks(memoryview(data)[:claimed])
    if not chunks:
        raise not_an_image(limits)
    width, height = _size(chunks[0], limits)
    limits.check_size(width, height)

    def load(accept: bool) -> Decoded:
        damage = None
        if lacking > 0:
            damage = f"the file ends inside its image data: {lacking} of {claimed} bytes are missing"
            if not accept:
                raise damaged(damage)
            # What is missing is read as zeros: what came before it stays as it was.
            name, content = chunks[-1]
            return _load([*chunks[:-1], (name, bytes(content) + bytes(min(lacking, limits.max_bytes)))], damage)
        return _load(chunks, damage)

    return Opened(width, height, load)


def _load(chunks: Sequence[_Chunk], damage: str | None) -> Decoded:
    try:
        pixels = _pixels(chunks)
    except MemoryError:
        raise
    except Exception:  # decoders of damaged data raise anything
        raise damaged(damage or "its image data is garbled or ends too early", usable=False) from None
    exif = bytes(next((content for kind, content in chunks if kind == b"EXIF"), b""))
    orientation = orientation_of(exif[6:] if exif.startswith(b"Exif\0\0") else exif)
    return Decoded(upright(pixels, orientation or 1), damage)


def _chunks(data: memoryview) -> list[_Chunk]:
    """Name and content of each; the last one's may be short."""
    found: list[_Chunk] = []
    at = 12
    while at + 8 <= len(data) and len(found) < 100_000:
        kind, length = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "little")
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found


def _size(chunk: _Chunk, limits: DecodeLimits) -> tuple[int, int]:
    """Width and height, from the first chunk."""
    kind, content = chunk
    if kind == b"VP8X" and len(content) >= 10:
        return 1 + int.from_bytes(content[4:7], "little"), 1 + int.from_bytes(content[7:10], "little")
    if kind == b"VP8L" and len(content) >= 5 and content[0] == 0x2F:
        bits = int.from_bytes(content[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(content) >= 10 and content[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", content[6:10])
        return width & 0x3FFF, height & 0x3FFF
    raise not_an_image(limits)


def _pixels(chunks: Sequence[_Chunk]) -> np.ndarray:
    """A WebP without metadata, through Pillow; of an animation the first frame."""
    parts = []
    for kind, content in chunks:
        if kind == b"VP8X":  # without flags for what is left out
            parts.append(_chunk(kind, bytes([content[0] & (_ANIMATION | _ALPHA)]) + bytes(content[1:])))
        elif kind in _PIXELS:
            parts.append(_chunk(kind, content))
    body = b"WEBP" + b"".join(parts)
    with Image.open(io.BytesIO(b"RIFF" + struct.pack("<I", len(body)) + body), formats=("WEBP",)) as image:
        image.load()
        return from_pillow(image)


def _chunk(kind: bytes, content: bytes | memoryview) -> bytes:
    return b"".join([kind, struct.pack("<I", len(content)), content, bytes(len(content) % 2)])
