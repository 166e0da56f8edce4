"""Looking for what the user names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from cocoer_client.errors import InvalidInput
from cocoer_client.sources import globs, tables
from cocoer_client.sources.buckets import in_bucket
from cocoer_client.sources.formats import IMAGE_SUFFIXES, is_image, is_stream, is_video, suffix_of
from cocoer_client.sources.found import HIDDEN, Found
from cocoer_client.sources.local import LocalSearch, local_source
from cocoer_client.sources.reading import kind_of, local_path
from cocoer_client.sources.source import CAMERA, Source

ALLOW_URL = "pass --allow-url to have URLs fetched"
KINDS = ", ".join(IMAGE_SUFFIXES)


def find(
    inputs: Sequence[str],
    *,
    allow_url: bool = False,
    output_dir: str | os.PathLike[str] | None = None,
    column: str = "path",
    images_only: bool = False,
    must_exist: bool = False,
) -> Found:
    """Sources in the order of ``inputs``, each once, by whatever names it was found.

    Args:
        inputs: files, folders (searched with all below them), globs, ``-``, ``camera:N``, URLs of images and streams,
            URLs of a bucket (an object, all below a prefix, a glob), Parquet files of names. What exists is never taken
            for a glob. A file that is named is taken whatever it is called; in folders, and by globs that don't end in
            another suffix, only images and videos are.
        allow_url: whether URLs of the web may be fetched.
        output_dir: left out of what is searched: images in it are results.
        column: of Parquet files, holds the names.
        images_only: videos, streams, cameras and standard input are none.
        must_exist: a file that is named and is not there is a problem; else it is a source, which can't be read.

    Returns:
        what was found; nothing is raised for an input that is wrong, the others are looked at all the same.
    """
    search = _Search(Found(), allow_url, output_dir, column, images_only, must_exist)
    for given in inputs:
        search.look(given)
    return search.found


def find_sources(inputs: Sequence[str], allow_url: bool, output_dir: str | os.PathLike[str]) -> list[Source]:
    """As ``find``, for callers to whom any problem is one too many.

    Raises:
        InvalidInput: the first problem.
    """
    found = find(inputs, allow_url=allow_url, output_dir=output_dir)
    if found.problems:
        raise InvalidInput(found.problems[0])
    return found.sources


class _Search:
    """One call of ``find``."""

    def __init__(
        self,
        found: Found,
        allow_url: bool,
        output_dir: str | os.PathLike[str] | None,
        column: str,
        images_only: bool,
        must_exist: bool,
    ) -> None:
        self.found, self.allow_url, self.column = found, allow_url, column
        self.images_only, self.must_exist = images_only, must_exist
        self.local = LocalSearch(found, output_dir, images_only)
        self.taken: set[str] = set()

    def look(self, given: str) -> None:
        """Add an input's sources; its problems are told with its name."""
        before = len(self.found.sources)
        try:
            for source in self._sources_of(given):
                self._add(source)
        except InvalidInput as error:
            self.found.problems.append(str(error))
            if len(self.found.sources) == before:
                self.found.unusable.append(str(error))

    def _add(self, source: Source) -> None:
        key = os.path.abspath(source.name) if source.is_file else source.name
        if key not in self.taken:
            self.taken.add(key)
            self.found.sources.append(source)

    def _sources_of(self, given: str) -> Iterator[Source]:
        if not given:
            raise InvalidInput("an input without a name")  # which paths take for this folder
        if given == "-" or given.startswith(CAMERA) or is_stream(given):
            yield self._endless(given)
            return
        try:
            kind, path = kind_of(given), local_path(given)
            url = urlsplit(given) if kind != "file" else None
        except ValueError as error:
            raise InvalidInput(f"{given}: neither a file nor a URL ({error})") from error
        if url is not None and kind == "url":
            if not self.allow_url:
                raise InvalidInput(f"{given}: {ALLOW_URL}")
            yield Source(given, "url", PurePosixPath(url.path).stem or url.hostname or "url")
        elif kind == "file" and globs.has_magic(path) and not os.path.lexists(path):
            yield from self._of_glob(given, path)
        elif suffix_of(given) == tables.SUFFIX:
            yield from self._of_table(given, path)
        elif kind == "bucket":
            yield from self._of_bucket(given)
        elif os.path.isdir(path):
            yield from self._some(self.local.folder(path), f"{given}: no images in this folder")
        else:
            yield self._named(given, path)

    def _endless(self, given: str) -> Source:
        """What is no file and has no end of its own."""
        if self.images_only:
            raise InvalidInput(f"{given}: standard input, cameras and streams are read by cocoer-infer")
        if given == "-":
            return Source("stdin", "stdin", "stdin")
        if given.startswith(CAMERA):
            if not given[len(CAMERA) :].isdecimal():
                raise InvalidInput(f"{given}: cameras are camera:0, camera:1, ...")
            return Source(given, "camera", given.replace(":", "-"))
        if not self.allow_url:
            raise InvalidInput(f"{given}: {ALLOW_URL}")
        try:
            url = urlsplit(given)
        except ValueError as error:
            raise InvalidInput(f"{given}: neither a file nor a URL ({error})") from error
        return Source(given, "stream", PurePosixPath(url.path).stem or url.hostname or "stream")

    def _named(self, given: str, path: str) -> Source:
        """A file that the user names is what the user says it is."""
        if self.must_exist and not os.path.lexists(path):
            raise InvalidInput(f"{given}: no such file or folder")
        if self.images_only and is_video(path):
            raise InvalidInput(f"{given}: videos are read by cocoer-infer")
        return local_source(path, os.path.basename(path))

    def _of_glob(self, given: str, pattern: str) -> Iterator[Source]:
        if suffix_of(pattern) != tables.SUFFIX:
            yield from self._some(self.local.glob(given, pattern), f"{given}: no images among what matches")
            return
        start, parts, deep = globs.split(pattern)
        if deep or not (names := list(globs.expand(start, parts, self.found.problems))):
            raise InvalidInput(f"{given}: no Parquet file matches" + (" (** finds images alone)" if deep else ""))
        for name in names:
            self.look(name)

    def _of_table(self, given: str, path: str) -> Iterator[Source]:
        refused = 0
        for name in tables.names_in(given, path, self.column, self.found.problems):
            kind, there = kind_of(name), local_path(name)
            if (kind == "url" or is_stream(name)) and not self.allow_url:
                refused += 1
            elif is_stream(name) and not self.images_only:
                yield Source(name, "stream", _target_of(name), listed=name)
            elif kind == "file" and is_video(there) and not self.images_only:
                yield Source(there, "video", _target_of(name), listed=name)
            else:
                yield Source(there, kind, _target_of(name), listed=name)
        if refused:
            self.found.problems.append(f"{given}: {refused} of its names are URLs; {ALLOW_URL}")

    def _of_bucket(self, given: str) -> Iterator[Source]:
        yield from self._some(self._in_bucket(given), f"{given}: no images")

    def _in_bucket(self, given: str) -> Iterator[Source]:
        for name, below, searched in in_bucket(given):
            if searched and any(part.startswith(".") for part in below.split("/")):
                self.found.left_out.counts[HIDDEN] += 1
            elif not searched or is_image(below) or (suffix_of(below) == suffix_of(given) and globs.has_magic(given)):
                yield Source(name, "bucket", os.path.splitext(below)[0])
            else:
                self.found.left_out.add(below)

    def _some(self, sources: Iterator[Source], otherwise: str) -> Iterator[Source]:
        """The sources; where there is none, and no problem has said why, raises ``InvalidInput``."""
        none, told = True, len(self.found.problems)
        for source in sources:
            none = False
            yield source
        if none and len(self.found.problems) > told:
            self.found.unusable.append(self.found.problems[-1])
        elif none:
            raise InvalidInput(f"{otherwise} ({KINDS})")


def _target_of(name: str) -> str:
    """A name of a table as a path below the output directory.

    >>> _target_of("../x/1.jpg"), _target_of("s3://bucket/x/2.jpg"), _target_of("/x/3.jpg")
    ('x/1', 'bucket/x/2', 'x/3')
    """
    path = local_path(name).rpartition("://")[2].partition("?")[0]
    parts = [part for part in os.path.splitext(path)[0].split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "image"
