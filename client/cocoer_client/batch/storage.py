"""Files here and in buckets: whatever fsspec opens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from cocoer_client.errors import InvalidInput, SourceUnavailable
from cocoer_client.files import replace_bytes
from cocoer_client.sources.buckets import reason_of
from cocoer_client.sources.reading import kind_of, read_named

NOT_THERE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError)
"""What a bucket says for good; that it refuses may be of credentials that have expired."""


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

    @contextlib.contextmanager
    def configured(self, urls: Sequence[str]) -> Iterator[None]:
        """Meanwhile fsspec opens what these URLs are in with the options, whoever asks it to."""
        protocols = {url.partition("://")[0] for url in urls if kind_of(url) == "bucket"}
        before = {protocol: fsspec.config.conf.get(protocol, {}) for protocol in protocols}
        fsspec.config.conf.update({protocol: {**before[protocol], **self.options} for protocol in protocols})
        try:
            yield
        finally:
            fsspec.config.conf.update(before)

    def read(self, url: str, timeout: float = 60.0) -> bytes:
        """The bytes of an image.

        Args:
            url: a path or a URL, as ``Source.url``.
            timeout: seconds, for the web.

        Raises:
            InvalidInput: there is none, or it can't be read.
            SourceUnavailable: it may be read later.
        """
        if kind_of(url) != "bucket":
            return read_named(url, timeout)
        fs, path = self.open(url)
        try:
            content: bytes = fs.cat_file(path)
        except NOT_THERE as error:
            raise InvalidInput(f"can't be read: {reason_of(error)}") from error
        except Exception as error:  # each protocol's package has its own
            raise SourceUnavailable(f"can't be read: {reason_of(error)}") from error
        return content


PLAIN = Storage()
"""Without options."""


def write(fs: fsspec.AbstractFileSystem, path: str, content: bytes) -> None:
    """Write a file, whole or not at all: an object store does it so by itself."""
    if isinstance(fs, LocalFileSystem):
        replace_bytes(Path(path), content)
    else:
        fs.pipe_file(path, content)
