"""JPEG: the segments that matter for pixels, handed to libjpeg-turbo, whose warnings tell damage.

Thumbnails, videos and second images behind the end, profiles, comments and broken metadata never reach the decoder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import simplejpeg
from PIL import Image

from cocoer_bls.decoding.canvas import canvas, four_bytes, upright
from cocoer_bls.decoding.exif import orientation_of
from cocoer_bls.decoding.limits import MAX_SCANS, Decoded, DecodeLimits, Opened, damaged, missing, unreadable
from cocoer_bls.errors import InputError

MAX_SEGMENTS = 10_000
"""Real files have some hundreds, of a profile or of extended XMP."""
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
SOI, EOI, SOS, DHT, DQT, DRI, DAC, APP0, APP1, APP14 = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xCC, 0xE0, 0xE1, 0xEE
_FRAMES = {*range(0xC0, 0xD0)} - {DHT, 0xC8, DAC}
_KINDS = {
    0xC3: "lossless",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical"),
    0xCB: "lossless",
}
_STRIP = 1 << 18
"""Pixels whose colours are converted at once."""
_HARMLESS = ("extraneous bytes", "Invalid SOS parameters", "Inconsistent progression", "Unknown Adobe", "JFIF")


@dataclass
class _Structure:
    """What the markers of one image say."""

    pieces: list[bytes | memoryview] = field(default_factory=lambda: [b"\xff\xd8"])
    frame: bytes = b""
    """The frame header's marker and content."""
    scans: int = 0
    ended: bool = False
    """There is an end marker."""
    orientation: int | None = None
    unsent: dict[int, set[int]] = field(default_factory=dict)
    """Component -> coefficients that have not come in full precision."""


def read(data: bytes, limits: DecodeLimits) -> Opened:
    """Read the markers; raises InputError."""
    structure = _walk(data)
    if not structure.frame:
        raise damaged("the file ends before its image data begins, or its header is garbled", usable=False)
    width, height = _check_frame(structure.frame, limits)
    if structure.scans > MAX_SCANS:
        raise InputError(
            "scans", f"IMAGE is a JPEG of {structure.scans} scans, more than the allowed {MAX_SCANS}; save it anew"
        )
    if not structure.scans:
        raise damaged("the file ends before its image data begins", usable=False)

    orientation = structure.orientation or 1

    def load(accept: bool, factor: int = 1) -> Decoded:
        pixels, damage = _decode(structure, width, height, factor)
        if damage and not accept:
            raise damaged(damage)
        return Decoded(upright(pixels, orientation), damage, factor)

    return Opened(width, height, load, load, turned=orientation >= 5)


def _walk(data: bytes) -> _Structure:
    found, at, view = _Structure(), 2, memoryview(data)
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.search(data, at)
        if marker is None or data[marker.start() + 1] in (SOI, EOI):
            found.ended = marker is not None and data[marker.start() + 1] == EOI
            return found
        at = marker.start()
        code, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if code == 0x01:
            at += 2
            continue
        if length < 2 or at + 2 + length > len(data):
            return found
        content = data[at + 4 : at + 2 + length]
        at += 2 + length
        if code == SOS:
            next_marker = _MARKER.search(data, at)
            end = len(data) if next_marker is None else next_marker.start()
            _scan(found, content, view[at:end])
            at = end
        else:
            _segment(found, code, content)
    raise damaged(f"it has more than {MAX_SEGMENTS} segments", usable=False)


def _segment(found: _Structure, code: int, content: bytes) -> None:
    if code == APP1:
        if found.orientation is None and content[:5] == b"Exif\0":
            found.orientation = orientation_of(content[6:])
        return
    if code in _FRAMES:
        if found.frame:
            raise damaged("it has two frame headers", usable=False)
        found.frame = bytes([code]) + content
        found.unsent = {number: set(range(64)) for number in content[6::3]}
    elif code == APP0 and content[:5] == b"JFIF\0" and len(content) >= 14:
        content = b"JFIF\0\x01\x01" + content[7:14]  # a newer version only makes the decoder warn
        content = content[:12] + b"\0\0"  # without its thumbnail
    elif code == APP14:
        if content[:5] != b"Adobe" or len(content) < 12:
            return
        content = content[:11] + bytes([content[11] if content[11] < 3 else 1])
    elif code not in (DHT, DQT, DRI, DAC):
        return
    found.pieces.append(_with_length(code, content))


def _scan(found: _Structure, header: bytes, coded: memoryview) -> None:
    found.scans += 1
    if found.scans > MAX_SCANS:
        return
    progressive = found.frame[:1] in (b"\xc2", b"\xca")
    if not progressive and len(header) >= 4:  # what a sequential scan says here means nothing, and may be wrong
        header = header[:-3] + b"\0\x3f\0"
    if len(header) >= 6:
        first, last, approximation = header[-3:]
        if approximation & 15 == 0:
            for number in header[1:-3:2]:
                found.unsent.get(number, set()).difference_update(range(first, last + 1))
    found.pieces += [_with_length(SOS, header), coded]


def _with_length(code: int, content: bytes) -> bytes:
    return bytes([0xFF, code]) + (len(content) + 2).to_bytes(2, "big") + content


def _check_frame(frame: bytes, limits: DecodeLimits) -> tuple[int, int]:
    """Width and height; raises InputError."""
    if len(frame) < 7:
        raise damaged("its header is garbled", usable=False)
    code, bits, components = frame[0], frame[1], frame[6]
    height, width = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
    if code in _KINDS:
        raise unreadable("JPEG", _KINDS[code])
    if bits != 8:
        raise unreadable("JPEG", f"{bits} bits a sample")
    if components not in (1, 3, 4):
        raise unreadable("JPEG", f"{components} colour components")
    if not width or not height:
        raise unreadable("JPEG", "its header has no height" if width else "its header has no width")
    limits.check_size(width, height)
    return width, height


def _decode(structure: _Structure, width: int, height: int, factor: int) -> tuple[np.ndarray, str | None]:
    """Pixels as libjpeg-turbo, and so OpenCV and Pillow, gives them, and what is wrong with the file.

    Of ``factor`` 2 and more, libjpeg's DCT makes as many pixels less, in each direction.
    """
    stream = b"".join([*structure.pieces, b"\xff\xd9"])
    cmyk = structure.frame[6] == 4
    space = "CMYK" if cmyk else "BGRX"
    width, height = -(-width // factor), -(-height // factor)  # as libjpeg rounds
    pixels = canvas(height, width)
    buffer, warning = four_bytes(pixels), ""
    # Of few pixels, a smaller image has as many: no least size is given where all are wanted.
    into = {"buffer": buffer} if factor == 1 else {"buffer": buffer, "min_width": width, "min_height": height}
    try:
        simplejpeg.decode_jpeg(stream, space, strict=True, **into)
    except ValueError as error:
        warning = str(error)
        buffer[...] = 0
        try:
            simplejpeg.decode_jpeg(stream, space, strict=False, **into)
        except ValueError:
            raise damaged("its header or image data is garbled", usable=False) from None
    damage = _damage(structure, warning, buffer if cmyk else pixels)
    if cmyk:
        _from_cmyk(buffer)
    return pixels, damage


def _from_cmyk(buffer: np.ndarray) -> None:
    """Turn UINT8 [height, width, 4], inverted as Adobe's files are, into BGR and a byte to spare; in place."""
    rows = max(1, _STRIP // buffer.shape[1])
    for top in range(0, len(buffer), rows):
        strip = buffer[top : top + rows]
        colours = Image.fromarray(255 - strip, "CMYK").convert("RGB").tobytes("raw", "BGRX")
        strip[...] = np.frombuffer(colours, np.uint8).reshape(strip.shape)


def _damage(structure: _Structure, warning: str, pixels: np.ndarray) -> str | None:
    if warning and not any(text in warning for text in _HARMLESS):
        share = missing(_grey_share(pixels), "lower")
        if not structure.ended:
            return f"the file ends inside its image data{share}"
        if "remature end" in warning:
            return f"its image data ends too early{share}"
        return f"its image data is garbled{share}"
    if any(structure.unsent.values()):
        return "scans are missing, so that the image lacks detail or colour"
    return None if structure.ended else "the file ends without an end marker; few pixels, or none, are missing"


def _grey_share(pixels: np.ndarray) -> float:
    """The rows at the bottom that libjpeg has filled with grey, as a share of all; looked for in strips, upwards."""
    rows = max(1, _STRIP // pixels.shape[1])
    for end in range(len(pixels), 0, -rows):
        start = max(0, end - rows)
        given = np.flatnonzero((pixels[start:end] != 128).any(axis=(1, 2)))
        if len(given):
            return 1 - (start + given[-1] + 1) / len(pixels)
    return 1.0
