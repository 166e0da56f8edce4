"""The EXIF orientation, read as browsers read it; nothing else of the metadata is looked at."""

from __future__ import annotations

ORIENTATION, SHORT = 0x0112, 3


def orientation_of(tiff: bytes) -> int | None:
    """Orientation 1 to 8 of a TIFF structure; 1 where it says none; None where it is no TIFF structure."""
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(tiff[:4])
    if order is None:
        return None

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)  # type: ignore[arg-type]

    directory = number(4, 4)
    if directory < 8 or directory + 2 > len(tiff):
        return 1
    for at in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        if at + 12 > len(tiff):
            break
        if number(at, 2) == ORIENTATION and number(at + 2, 2) == SHORT and number(at + 4, 4) == 1:
            value = number(at + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1
