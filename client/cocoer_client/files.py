"""Files that are there whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def temporary_name(path: Path, suffix: str = "") -> Path:
    """Beside ``path``, for what is not complete yet.

    Args:
        path: the file that it becomes.
        suffix: the name's end, for writers that tell the format by it.

    >>> temporary_name(Path("out/film.mp4"), ".mp4").name.startswith(".film.mp4.")
    True
    """
    # Not the process's number: that is 1 in every container.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part{suffix}")


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file, then give it its name: an interrupted run leaves no half file.

    Args:
        path: the file; its directory is made where it is missing.
        write: gets the temporary file's path.

    Raises:
        OSError: it can't be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_bytes(path: Path, content: bytes) -> None:
    """As ``replace_file``; what is there afterwards also survives a loss of power."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    replace_file(path, write)
