"""Images in buckets, and wherever else fsspec reads: ``s3://``, ``gs://``, ``memory://``. Needs fsspec."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from cocoer_client.errors import InvalidInput, SourceUnavailable
from cocoer_client.optional import needs
from cocoer_client.sources.globs import has_magic, split

PERMANENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError)
"""What a bucket says for good; that it refuses may be of credentials that have expired."""


def open_bucket(url: str) -> tuple[Any, str]:
    """fsspec's file system, and the path in it.

    Raises:
        InvalidInput: fsspec, or the package for this protocol, is missing; or there is no such protocol.
    """
    protocol = url.partition("://")[0] + "://"
    needs(protocol, "fsspec", extra="buckets")
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:  # an unknown protocol, or its package is missing
        raise InvalidInput(f"{url}: {error}") from error
    except Exception as error:  # of the protocol's package, which has its own: no credentials, for instance
        raise InvalidInput(f"{url}: {reason_of(error)}") from error
    return fs, path


def in_bucket(url: str) -> Iterator[tuple[str, str, bool]]:
    """Objects that a URL names: one, all below a prefix, or those that a glob matches.

    Args:
        url: what exists is never taken for a glob.

    Returns:
        of each its URL, its path below the prefix or the glob's beginning, and whether it was come across, not named.

    Raises:
        InvalidInput: there is nothing, or it may not be read.
    """
    fs, path = open_bucket(url)
    try:
        if has_magic(path) and not fs.exists(path):
            start, *_ = split(path)
            for name, about in sorted(fs.glob(path, detail=True).items()):
                yield from _below(fs, start, name) if about["type"] == "directory" else [_one(fs, start, name)]
        elif fs.isdir(path):
            yield from _below(fs, path, path)
        elif fs.isfile(path):
            yield fs.unstrip_protocol(path), posixpath.basename(path), False
        else:
            raise InvalidInput(f"{url}: no such file or folder")
    except InvalidInput:
        raise
    except Exception as error:  # each protocol's package has its own
        raise InvalidInput(f"{url}: {reason_of(error)}") from error


def _below(fs: Any, start: str, folder: str) -> Iterator[tuple[str, str, bool]]:
    return (_one(fs, start, name) for name in sorted(fs.find(folder)))


def _one(fs: Any, start: str, name: str) -> tuple[str, str, bool]:
    return fs.unstrip_protocol(name), name.removeprefix(start).lstrip("/"), True


def read_from_bucket(url: str) -> bytes:
    """The bytes of an object.

    Raises:
        InvalidInput: there is none; the message does not repeat the name.
        SourceUnavailable: can't be read for now.
    """
    fs, path = open_bucket(url)
    try:
        content: bytes = fs.cat_file(path)
    except PERMANENT as error:
        raise InvalidInput(f"can't be read: {reason_of(error)}") from error
    except Exception as error:  # each protocol's package has its own
        raise SourceUnavailable(f"can't be read: {reason_of(error)}") from error
    return content


def reason_of(error: BaseException) -> str:
    """An error of fsspec's in a few words.

    >>> reason_of(FileNotFoundError("/bucket/1.jpg"))
    'no such file'
    """
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
