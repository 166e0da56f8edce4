"""BMP, in NumPy: every header from OS/2 to version 5, palettes, RLE, and any bit masks."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from cocoer_bls.decoding.canvas import canvas
from cocoer_bls.decoding.limits import Decoded, DecodeLimits, Opened, damaged, missing, not_an_image, unreadable

_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
RGB, RLE8, RLE4, BITFIELDS, ALPHABITFIELDS = 0, 1, 2, 3, 6
_MASKS = {16: (0x7C00, 0x03E0, 0x001F), 32: (0xFF0000, 0xFF00, 0xFF)}
"""Red, green and blue where the file names none."""
_BLOCK = 1 << 20
"""Pixels that are taken apart at once."""


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    top_down: bool
    bits: int
    compression: int
    masks: tuple[int, int, int]
    palette: np.ndarray
    """UINT8 [256, 3], BGR."""
    offset: int
    """Where pixels begin."""


def read(data: bytes, limits: DecodeLimits) -> Opened:
    """Read the header; raises InputError."""
    header = _header(data, limits)
    return Opened(header.width, header.height, lambda accept: _load(data, header, accept))


def _load(data: bytes, header: _Header, accept: bool) -> Decoded:
    if header.compression in (RLE8, RLE4):
        rows, share = _run_lengths(data, header)
        whole = share == 0
    else:
        rows, share, whole = _rows(data, header)
    damage = None
    if not whole:
        part = "lower" if header.top_down else "upper"
        damage = "the file ends inside its image data" + missing(share, part)
        if not accept:
            raise damaged(damage)
    pixels = canvas(header.height, header.width)
    upwards = pixels if header.top_down else pixels[::-1]
    step = max(1, _BLOCK // header.width)
    for first in range(0, header.height, step):
        block = rows[first : first + step]
        upwards[first : first + step] = header.palette[block] if header.bits <= 8 else block
    return Decoded(pixels, damage)


def _header(data: bytes, limits: DecodeLimits) -> _Header:
    size = int.from_bytes(data[14:18], "little")
    if size not in _HEADERS or len(data) < 14 + size:
        raise not_an_image(limits)
    compression, used, masks, entry = RGB, 0, None, 4
    if size == 12:
        width, height, _, bits = struct.unpack("<HHHH", data[18:26])
        entry = 3
    else:
        width, height, _, bits = struct.unpack("<iiHH", data[18:30])
        if size >= 40:
            compression, used = struct.unpack("<I", data[30:34])[0], struct.unpack("<I", data[46:50])[0]
    top_down, height = height < 0, abs(height)
    if width <= 0 or height == 0:
        raise not_an_image(limits)
    limits.check_size(width, height)
    _check_kind(size, bits, compression)
    start = 14 + size
    if compression in (BITFIELDS, ALPHABITFIELDS):
        masks = struct.unpack("<III", data[54:66].ljust(12, b"\0"))
        start += (12 if compression == BITFIELDS else 16) if size == 40 else 0
    offset = int.from_bytes(data[10:14], "little") or start
    count = min(used or 1 << bits, 256) if bits <= 8 else 0
    if start == offset:  # where the palette is; there are files that leave it out of account
        offset += count * entry
    elif start <= offset < start + count * entry:  # a short palette, as OS/2 files have it
        count = (offset - start) // entry
    count = max(min(count, (len(data) - start) // entry), 0)
    colours = np.frombuffer(data, np.uint8, count=count * entry, offset=start)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours) // entry] = colours.reshape(-1, entry)[:, :3]
    return _Header(width, height, top_down, bits, compression, masks or _MASKS.get(bits, (0, 0, 0)), palette, offset)


def _check_kind(size: int, bits: int, compression: int) -> None:
    if size in (16, 64) and compression not in (RGB, RLE8, RLE4):
        raise unreadable("BMP", "an OS/2 compression")
    if compression in (4, 5):
        raise unreadable("BMP", "a JPEG or PNG inside")
    if bits not in (1, 2, 4, 8, 16, 24, 32):
        raise unreadable("BMP", f"{bits} bits a pixel")
    fitting = {RGB: True, RLE8: bits == 8, RLE4: bits == 4, BITFIELDS: bits >= 16, ALPHABITFIELDS: bits >= 16}
    if not fitting.get(compression, False):
        raise unreadable("BMP", f"compression {compression} of {bits} bits a pixel")


def _rows(data: bytes, header: _Header) -> tuple[np.ndarray, float, bool]:
    """Rows in the file's order (indices, or BGR), the share that is missing, and whether all is there."""
    width, height, bits = header.width, header.height, header.bits
    used = (width * bits + 7) // 8
    stride = (width * bits + 31) // 32 * 4
    coded = np.frombuffer(data, np.uint8)[header.offset :][: stride * height]
    needed = stride * (height - 1) + used  # the last row's padding is often left out
    whole, share = len(coded) >= needed, max(0.0, 1 - len(coded) / (stride * height))
    if len(coded) < stride * height:
        coded = np.concatenate([coded, np.zeros(stride * height - len(coded), np.uint8)])
    coded = coded.reshape(height, stride)[:, :used]
    if bits == 24:
        return coded.reshape(height, width, 3), share, whole
    if bits <= 8:
        shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
        indices = (coded[..., None] >> shifts) & np.uint8((1 << bits) - 1)
        return indices.reshape(height, -1)[:, :width], share, whole
    pixels = np.empty((height, width, 3), np.uint8)
    step = max(1, _BLOCK // width)
    for first in range(0, height, step):
        block = np.ascontiguousarray(coded[first : first + step]).view(f"<u{bits // 8}")
        for channel, mask in enumerate(reversed(header.masks)):
            pixels[first : first + step, :, channel] = _channel(block, mask)
    return pixels, share, whole


def _channel(values: np.ndarray, mask: int) -> np.ndarray:
    """The bits of a mask as 0 to 255."""
    if mask == 0:
        return np.zeros(values.shape, np.uint8)
    low, length = (mask & -mask).bit_length() - 1, mask.bit_length()
    surplus = max(0, length - low - 16)  # more than 16 bits would overflow below
    part = (values.astype(np.uint32) & np.uint32(mask & 0xFFFFFFFF)) >> np.uint32(low + surplus)
    return (part * np.uint32(255) // np.uint32((1 << length - low - surplus) - 1)).astype(np.uint8)


def _run_lengths(data: bytes, header: _Header) -> tuple[np.ndarray, float]:
    """Indices [height, width] in the file's order of rows, and the share that is missing."""
    width, height, four = header.width, header.height, header.compression == RLE4
    canvas, at, x, y = np.zeros((height, width), np.uint8), header.offset, 0, 0
    while y < height:
        pair = data[at : at + 2]
        at += 2
        if len(pair) < 2:
            return canvas, 1 - (y * width + min(x, width)) / (width * height)
        count, value = pair
        if count:
            both = [value >> 4, value & 15] if four else [value, value]
            run = np.tile(np.array(both, np.uint8), 128)[:count]
            end = min(x + count, width)
            if end > x:
                canvas[y, x:end] = run[: end - x]
            x = end
        elif value == 0:
            x, y = 0, y + 1
        elif value == 1:
            return canvas, 0.0
        elif value == 2:
            move = data[at : at + 2].ljust(2, b"\0")
            x, y, at = min(x + move[0], width), y + move[1], at + 2
        else:
            length = (value + 1) // 2 if four else value
            literal = np.frombuffer(data[at : at + length], np.uint8)
            if four:
                literal = np.stack([literal >> 4, literal & 15], axis=1).reshape(-1)[:value]
            end = min(x + len(literal), width)
            canvas[y, x:end] = literal[: end - x]
            x, at = end, at + length + length % 2
    return canvas, 0.0
