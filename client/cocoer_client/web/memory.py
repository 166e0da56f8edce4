"""Memory that images leave behind."""

from __future__ import annotations

LARGE = 31 << 20
"""Bytes; glibc adapts to what has at most 32 MiB."""


def keep_freed() -> None:
    """Have glibc keep the memory that large images leave for the next ones: up to twice ``LARGE``.

    Else it goes back to the system after each, and is fetched anew page by page, which takes more than half of the
    processor time that a photo of 5 MB costs. glibc keeps twice as much as the largest block that it has seen freed
    (mallopt(3), M_MMAP_THRESHOLD); here is one. Nothing is written to it, so that it takes no memory itself. Other
    libraries of C don't mind.
    """
    bytes(LARGE)
