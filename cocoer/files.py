"""Files: written so that readers see the old one or the new one, never half of it; and what a download is instead."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def temporary_name(path: Path) -> Path:
    """A file beside ``path`` that nobody else writes, and that git ignores."""
    # Not the process's number: that is 1 in every container.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def replace_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, then rename it; returns ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def not_the_file(head: bytes) -> str:
    """What a file is instead of what it should be, and what to do, as far as its first bytes tell; else empty.

    Args:
        head: the file's beginning, 1 KB or more; all of it if it is shorter.

    >>> not_the_file(b"")
    'is empty; download it again'
    >>> not_the_file(b"\\x80\\x02}")
    ''
    """
    if not head:
        return "is empty; download it again"
    if head.startswith(LFS_POINTER):
        return (
            "is a Git LFS pointer, not the file itself; fetch that with `git lfs pull` where it was cloned, or "
            "download it"
        )
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "is a web page (HTML or XML), so its download failed; open it to see what it says, and download again"
    return ""


def first_line(error: Exception) -> str:
    """The first line of an error's text; its type where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
