"""Files here and in buckets: whatever fsspec opens."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from cocoer_client.errors import CocoerError, InvalidInput
from cocoer_client.files import replace_bytes

OF_THE_DISK = {errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT, errno.EHOSTDOWN}
"""What a local file can't be read for now for; anything else is the file's own."""


class StorageError(CocoerError):
    """Storage can't be reached, or fails: what it holds may be there later."""


@dataclass(frozen=True)
class Storage:
    """Opens URLs.

    Args:
        options: fsspec's, of what is not a local file; not in ``repr``, since some are secrets.
    """

    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def open(self, url: str) -> tuple[fsspec.AbstractFileSystem, str]:
        """A URL's file system, and its path there.

        Raises:
            InvalidInput: an unknown protocol, a package that it needs is missing, or an option is wrong.
        """
        try:
            # Split once without them: options of a bucket mean nothing to a local file.
            local = issubclass(
                fsspec.get_filesystem_class(fsspec.core.split_protocol(url)[0] or "file"), LocalFileSystem
            )
            fs, path = fsspec.core.url_to_fs(url, **({} if local else self.options))
        except (ValueError, ImportError, TypeError) as error:
            raise InvalidInput(f"{url}: {error}") from error
        return fs, path

    def read(self, url: str) -> bytes:
        """The bytes of a file.

        Raises:
            InvalidInput: there is none, or it can't be read.
            StorageError: it may be read later.
        """
        fs, path = self.open(url)
        try:
            content: bytes = fs.cat_file(path)
            return content
        except Exception as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if _is_final(error, isinstance(fs, LocalFileSystem)):
                raise InvalidInput(f"can't be read: {reason}") from error
            raise StorageError(f"can't be read for now: {reason}") from error


PLAIN = Storage()
"""Without options."""


def _is_final(error: Exception, local: bool) -> bool:
    """Whether a file will not be readable later either. A bucket's refusal may be of credentials that have expired."""
    if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError)):
        return True
    return local and isinstance(error, OSError) and error.errno not in OF_THE_DISK


def write(fs: fsspec.AbstractFileSystem, path: str, content: bytes) -> None:
    """Write a file, whole or not at all: an object store does it so by itself."""
    if isinstance(fs, LocalFileSystem):
        replace_bytes(Path(path), content)
    else:
        fs.pipe_file(path, content)
