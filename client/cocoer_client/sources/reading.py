"""The bytes of an image, wherever it is: a file, a pipe, the web, a bucket."""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from cocoer_client.errors import InvalidInput, SourceUnavailable
from cocoer_client.ordered import is_ending
from cocoer_client.protocol import MAX_REQUEST_BYTES
from cocoer_client.sources.buckets import read_from_bucket
from cocoer_client.sources.web import download

LOCAL, HERE, ENCODED = "file://", "local://", "file://localhost/"
WEB = ("http://", "https://")
CHUNK = 1 << 20
LOOK = 0.2
"""Seconds between two looks at whether a pipe is still wanted."""
PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
"""Of the disk or of this machine, rather than of the file."""


def read_named(name: str, timeout: float = 60.0) -> bytes:
    """The bytes of an image by what a table of names, or ``Source.url``, calls it.

    Args:
        name: a path, a ``file://`` URL, a URL of the web or of a bucket.
        timeout: seconds, for the web.

    Raises:
        InvalidInput: can't be read; the message does not repeat the name.
        SourceUnavailable: can't be read for now.
    """
    return read(kind_of(name), local_path(name), timeout)


def kind_of(name: str) -> str:
    """``url``, ``bucket`` or ``file``.

    >>> kind_of("s3://b/1.jpg"), kind_of("file:///1.jpg"), kind_of("a:/b"), kind_of("HTTP://h/1.jpg")
    ('bucket', 'file', 'file', 'url')
    """
    scheme, separator, _ = name.partition("://")
    if not separator or not scheme.replace("+", "").replace("-", "").replace(".", "").isalnum():
        return "file"
    if f"{scheme}://".lower() in WEB:
        return "url"
    return "file" if name.startswith((LOCAL, HERE)) else "bucket"


def local_path(name: str) -> str:
    """The path of a ``file://`` URL: as fsspec takes it, or, on ``localhost``, as RFC 8089 does; else as it is.

    >>> local_path("file:///a%20b"), local_path("file://localhost/a%20b"), local_path("a%20b")
    ('/a%20b', '/a b', 'a%20b')
    """
    if name.startswith(ENCODED):
        return os.fsdecode(unquote_to_bytes(name[len(ENCODED) - 1 :]))
    for prefix in (LOCAL, HERE):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def read(kind: str, name: str, timeout: float) -> bytes:
    """The bytes of an image; see ``Source``."""
    if kind == "stdin":
        return _read_stdin()
    if kind == "url":
        return download(name, timeout)
    if kind == "bucket":
        return read_from_bucket(name)
    return _read_file(name)


def _read_file(path: str) -> bytes:
    try:
        status = os.stat(path)
        if stat.S_ISFIFO(status.st_mode):
            return _read_named_pipe(path)
        if stat.S_ISDIR(status.st_mode):
            raise InvalidInput(os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput("a device, and no file")
        if status.st_size > MAX_REQUEST_BYTES:
            raise InvalidInput(_too_large())
        with open(path, "rb") as file:
            return file.read()
    except ValueError as error:  # a null byte, from a table of names
        raise InvalidInput(f"no name of a file: {error}") from error
    except OSError as error:
        kind = SourceUnavailable if error.errno in PASSING else InvalidInput
        raise kind(error.strerror or str(error)) from error


def _read_named_pipe(path: str) -> bytes:
    # That nobody writes to it lets this open all the same.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        # The shell's <(...) is a pipe without a name, and its writer may be gone by now.
        return _read_pipe(descriptor, written_to=not os.path.exists(os.path.realpath(path)))
    finally:
        os.close(descriptor)


def _read_stdin() -> bytes:
    try:
        if not hasattr(select, "poll"):  # Windows
            return sys.stdin.buffer.read()
        return _read_pipe(sys.stdin.fileno())
    except (AttributeError, ValueError, OSError) as error:  # closed, or not the system's
        raise InvalidInput(f"standard input can't be read: {getattr(error, 'strerror', None) or error}") from error


def _read_pipe(descriptor: int, written_to: bool = False) -> bytes:
    """What is written to a pipe until its end, as long as that takes; but not longer than somebody waits for it.

    Args:
        descriptor: of the pipe; reading it may wait, or not.
        written_to: somebody has it open, or has had: with nobody left, this is its end, not before its beginning.
    """
    events = select.poll()
    events.register(descriptor, select.POLLIN)
    waits = os.get_blocking(descriptor)

    def read() -> bytes:
        nonlocal written_to
        while True:
            if is_ending():
                raise InvalidInput("interrupted")
            if not events.poll(1000 * LOOK) and (waits or not written_to):
                continue
            try:
                part = os.read(descriptor, CHUNK)
            except BlockingIOError:  # who has it open writes nothing for now
                continue
            written_to = True
            return part

    return _collect(read)


def _collect(read: Callable[[], bytes]) -> bytes:
    parts, size = [], 0
    while part := read():
        parts.append(part)
        size += len(part)
        if size > MAX_REQUEST_BYTES:
            raise InvalidInput(_too_large())
    return b"".join(parts)


def _too_large() -> str:
    return f"larger than {MAX_REQUEST_BYTES >> 20} MiB, which is more than a request may have"
