"""Files that are there whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO


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


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Around writing: its errors name the file that was meant, and not a temporary one or none.

    Raises:
        OSError: with ``filename``.
    """
    try:
        yield
    except BrokenPipeError:  # of standard output; who reads it has seen enough
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


class NamedText:
    """A text file whose errors name ``path``.

    Args:
        file: takes the text.
        path: the file that it becomes.
    """

    def __init__(self, file: IO[str], path: Path) -> None:
        self.file, self.path = file, path

    def write(self, text: str) -> int:
        """As the file's."""
        with naming(self.path):
            return self.file.write(text)

    def flush(self) -> None:
        """As the file's."""
        with naming(self.path):
            self.file.flush()

    def close(self) -> None:
        """As the file's; it is closed where that fails, too."""
        with naming(self.path):
            self.file.close()


def is_special(path: Path) -> bool:
    """Whether it is a pipe or a device, which is written to, and never replaced."""
    return path.exists() and not path.is_file()


def why_not_written(error: OSError) -> str:
    """A failure to write in words, and what to do about it.

    >>> why_not_written(OSError(errno.ENOSPC, "No space left on device", "out/results.jsonl"))
    "can't write out/results.jsonl: No space left on device; make room first"
    """
    if error.filename is None:
        return str(error)
    what = f"can't write {error.filename}: {error.strerror}"
    return f"{what}; make room first" if error.errno in (errno.ENOSPC, errno.EDQUOT) else what
