"""Files as Pillow can open them: without what does not concern their pixels, which the server does not look at either.

A damaged profile, a wrong checksum in a text, an empty JFIF segment or a missing end keep Pillow from opening an image
that the server has read.
"""

from __future__ import annotations

import struct
import zlib

PNG = b"\x89PNG\r\n\x1a\n"


def essentials(data: bytes) -> bytes:
    """A JPEG or PNG reduced to what matters for its pixels, with an end; a WebP in full length; others as they are."""
    if data.startswith(PNG):
        return _png(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return data + bytes(min(max(0, 8 + int.from_bytes(data[4:8], "little") - len(data)), len(data)))
    return _jpeg(data) if data.startswith(b"\xff\xd8\xff") else data


def _png(data: bytes) -> bytes:
    kept = [PNG]
    at = len(PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        content = data[at + 8 : at + 8 + length]
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"eXIf"):
            kept.append(_chunk(kind, content))
        at += length + 12
        if kind == b"IEND":
            break
    return b"".join([*kept, _chunk(b"IEND", b"")])


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _jpeg(data: bytes) -> bytes:
    """Kept are the first EXIF data, which have the orientation, and Adobe's APP14, which names the colours."""
    kept, has_exif = [data[:2]], False
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        code, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        is_metadata = 0xE0 <= code <= 0xEF or code == 0xFE
        is_exif = code == 0xE1 and data[at + 4 : at + 8] == b"Exif" and not has_exif
        has_exif |= is_exif
        if not is_metadata or is_exif or (code == 0xEE and end - at >= 14):
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:], b"\xff\xd9"])
