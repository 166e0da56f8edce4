"""One image, video, camera or stream."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from urllib.parse import quote

from cocoer_client.sources.reading import read

CAMERA = "camera:"


@dataclass(frozen=True, slots=True)
class Source:
    """One image, or one video.

    Args:
        name: as the user knows it, ``file`` in the results. Of files, a path, whose bytes that are not UTF-8 are
            surrogates, as ``os.fsdecode`` makes them.
        kind: ``file``, ``stdin``, ``url``, ``bucket`` (an image), ``video`` (a file), ``camera``, ``stream``.
        target: where its annotated image goes, relative to the output directory, without suffix.
        listed: as a table of names has it; empty for what is not from a table.
    """

    name: str
    kind: str
    target: str | os.PathLike[str]
    listed: str = ""

    @property
    def is_video(self) -> bool:
        """Whether it is frames, rather than one image."""
        return self.kind in ("video", "camera", "stream")

    @property
    def is_file(self) -> bool:
        """Whether ``name`` is a path on this machine."""
        return self.kind in ("file", "video")

    @property
    def url(self) -> str:
        """A name that does not depend on the current folder, and that ``read_named`` reads; as it is listed, if so."""
        if self.listed or not self.is_file:
            return self.listed or self.name
        return file_url(self.name)

    def fingerprint(self) -> dict[str, int] | None:
        """What tells that a file is still the same; None for what is no regular file."""
        if not self.is_file:
            return None
        try:
            status = os.stat(self.name)
        except (OSError, ValueError):
            return None
        return {"size": status.st_size, "mtime_ns": status.st_mtime_ns} if stat.S_ISREG(status.st_mode) else None

    def read(self, timeout: float) -> bytes:
        """The bytes of an image (not of a video).

        Raises:
            InvalidInput: can't be read; the message does not repeat the name.
            SourceUnavailable: can't be read for now: the network or the disk failed.
        """
        return read(self.kind, self.name, timeout)


def file_url(path: str) -> str:
    """A file as ``cocoer-batch`` names it: as fsspec does, or, where the name is not UTF-8, as RFC 8089 does.

    >>> file_url("/a b/1.jpg"), file_url(os.fsdecode(b"/a b/\\xff.jpg"))
    ('file:///a b/1.jpg', 'file://localhost/a%20b/%FF.jpg')
    """
    path = os.path.abspath(path)
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"file://localhost{quote(os.fsencode(path))}"
    return f"file://{path}"
