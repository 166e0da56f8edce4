"""What a user names (files, folders, globs, ``-``, URLs, videos, cameras) as a list of sources of images."""

from __future__ import annotations

import glob
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import urlsplit

from cocoer_client.errors import InvalidInput

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
CAMERA = "camera:"
MAX_BYTES = 64 << 20
"""Of a download; the server has its own, lower limit."""


@dataclass(frozen=True)
class Source:
    """One image, or one video.

    Args:
        name: as the user knows it; ``file`` in the results.
        kind: ``file``, ``stdin``, ``url``, ``video`` or ``camera``.
        target: where its annotated image goes, relative to the output directory, without suffix.
    """

    name: str
    kind: str
    target: PurePath

    @property
    def is_video(self) -> bool:
        return self.kind in ("video", "camera")

    def fingerprint(self) -> dict[str, int] | None:
        """What tells that a file is still the same; None for what is no file."""
        if self.kind not in ("file", "video"):
            return None
        try:
            status = os.stat(self.name)
        except OSError:
            return None
        return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}

    def read(self, timeout: float) -> bytes:
        """The bytes of an image (not of a video).

        Raises:
            InvalidInput: can't be read; the message does not repeat the name.
        """
        try:
            if self.kind == "stdin":
                return sys.stdin.buffer.read()
            if self.kind == "url":
                return _download(self.name, timeout)
            return Path(self.name).read_bytes()
        except urllib.error.URLError as error:
            reason = error.reason if not isinstance(error, urllib.error.HTTPError) else f"HTTP status {error.code}"
            raise InvalidInput(f"download failed: {reason}") from error
        except OSError as error:
            raise InvalidInput(error.strerror or str(error)) from error


def find_sources(inputs: Sequence[str], allow_url: bool, output_dir: Path) -> list[Source]:
    """Sources in the order of ``inputs``; of a folder, in the order of their names.

    Args:
        inputs: files, folders (searched with all below them), globs, ``-``, URLs, ``camera:N``.
        allow_url: whether URLs may be fetched.
        output_dir: left out of folders: images in it are results.

    Raises:
        InvalidInput: a URL without ``allow_url``, a folder or glob without images; names it.
    """
    sources: list[Source] = []
    for given in inputs:
        sources += _sources_of(given, allow_url, output_dir.resolve())
    return list(dict.fromkeys(sources))


def _sources_of(given: str, allow_url: bool, output_dir: Path) -> list[Source]:
    if not given:
        raise InvalidInput("an input without a name")  # which Path takes for this folder
    if given == "-":
        return [Source("stdin", "stdin", PurePath("stdin"))]
    if given.startswith(CAMERA):
        if not given[len(CAMERA) :].isdecimal():
            raise InvalidInput(f"{given}: cameras are camera:0, camera:1, ...")
        return [Source(given, "camera", PurePath(given.replace(":", "-")))]
    try:
        url = urlsplit(given)
    except ValueError as error:
        raise InvalidInput(f"{given}: neither a file nor a URL ({error})") from error
    if url.scheme in ("http", "https"):
        if not allow_url:
            raise InvalidInput(f"{given}: pass --allow-url to have URLs fetched")
        return [Source(given, "url", PurePath(Path(url.path).stem or url.hostname or "url"))]
    path = Path(given)
    if path.is_dir():
        found = [_file(str(file), file.relative_to(path)) for file in _walk(path, output_dir)]
        if not found:
            raise InvalidInput(f"{given}: no images in this folder ({', '.join(IMAGE_SUFFIXES)}) or below it")
        return found
    if not path.exists() and glob.has_magic(given):
        names = sorted(glob.glob(given, recursive=True))
        if not names:
            raise InvalidInput(f"{given}: nothing matches")
        return [source for name in names for source in _sources_of(name, allow_url, output_dir)]
    return [_file(given, PurePath(path.name))]


def _file(name: str, target: PurePath) -> Source:
    kind = "video" if PurePath(name).suffix.lower() in VIDEO_SUFFIXES else "file"
    return Source(name, kind, target.with_suffix("") if target.suffix else target)


def _walk(folder: Path, output_dir: Path) -> Iterator[Path]:
    for directory, below, names in os.walk(folder):
        below[:] = sorted(
            name for name in below if not name.startswith(".") and (Path(directory) / name).resolve() != output_dir
        )
        for name in sorted(names):
            if not name.startswith(".") and PurePath(name).suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
                yield Path(directory) / name


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the web alone."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.URLError(f"it leads to {newurl[:100]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, timeout: float) -> bytes:
    with urllib.request.build_opener(_WebOnly).open(url, timeout=timeout) as response:
        data: bytes = response.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"download failed: more than {MAX_BYTES >> 20} MiB")
    return data
