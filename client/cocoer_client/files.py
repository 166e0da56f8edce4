"""Files that are there whole or not at all: written beside their place, then renamed. And what paths really lead to."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from cocoer_client.leftovers import clean, own_mark

NAME_MAX = 255
"""Bytes of a file's name, on all usual file systems."""


def shortened(name: str, room: int) -> str:
    """The beginning of a name, at most ``room`` bytes long; no character is cut through.

    >>> shortened("caf\xe9.png", 4), shortened("caf\xe9.png", 99)
    ('caf', 'caf\xe9.png')
    """
    encoded = os.fsencode(name)
    if len(encoded) <= room:
        return name
    cut = encoded[: max(room, 0)]
    with contextlib.suppress(UnicodeDecodeError):
        encoded.decode()  # else its bytes are no characters
        cut = cut.decode(errors="ignore").encode()
    return os.fsdecode(cut)


def temporary_name(path: Path, suffix: str = "") -> Path:
    """Beside ``path``, for what is not complete yet; what killed runs have left beside it is removed, once.

    Args:
        path: the file that it becomes.
        suffix: the name's end, for writers that tell the format by it.

    >>> temporary_name(Path("out/film.mp4"), ".mp4").name.startswith(".film.mp4.")
    True
    """
    clean(path.parent)
    end = f".{own_mark()}-{secrets.token_hex(4)}.part{suffix}"
    return path.with_name(f".{shortened(path.name, NAME_MAX - 1 - len(end))}{end}")


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file, then give it its name: an interrupted run leaves no half file.

    Args:
        path: the file; its directory is made where it is missing.
        write: gets the temporary file's path.

    Raises:
        OSError: it can't be written, and says which file; nothing is left behind.
    """
    with naming(path):
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
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of the system's in this block are about a file, as users know it: writing to an open one does not say."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename, error.filename2 = os.fspath(path), None
        raise


def cant_write(error: OSError) -> str:
    """What to tell of a file that can't be written, on one line; where something can be done, what.

    >>> cant_write(OSError(errno.ENOSPC, "No space left on device", "out/a.png"))
    "can't write out/a.png: No space left on device; make room, and give the same command with --resume"
    """
    if error.errno is None:
        return str(error)
    place = f" {os.fsdecode(error.filename)}" if isinstance(error.filename, (str, bytes, os.PathLike)) else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    todo = "; make room, and give the same command with --resume" if full else ""
    return f"can't write{place}: {error.strerror}{todo}"


class RealPaths:
    """What paths lead to when links are followed: of many files in few folders, at the price of the folders."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def of(self, path: str | os.PathLike[str]) -> str:
        """As ``os.path.realpath``, which never fails: a link to itself is what it is."""
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or os.path.islink(path):
            return os.path.realpath(path)
        if (real := self._folders.get(folder)) is None:
            real = self._folders[folder] = os.path.realpath(folder)
        return os.path.join(real, name)


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


def everyone_reads(path: Path) -> bool:
    """Whether every user of this machine may read it; False also where that can't be told."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def is_special(path: Path) -> bool:
    """Whether it is a pipe or a device, which is written to, and never replaced."""
    return path.exists() and not path.is_file()


def locked(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed; False where another process has.

    Where the file system, or this system, has no locks, there is none, and nobody else has one.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
