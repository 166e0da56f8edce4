"""Sources in folders of this machine, and by globs."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cocoer_client.errors import InvalidInput
from cocoer_client.files import RealPaths
from cocoer_client.sources import globs
from cocoer_client.sources.folders import FolderSearch, identity
from cocoer_client.sources.formats import is_image, is_video, suffix_of
from cocoer_client.sources.found import RESULT, Found
from cocoer_client.sources.source import Source


def local_source(path: str, target: str) -> Source:
    """An image or a video, as its name says; ``target`` is with its suffix."""
    return Source(path, "video" if is_video(path) else "file", os.path.splitext(target)[0])


class LocalSearch:
    """Searches folders.

    Args:
        found: gets what is left out, and folders that can't be read.
        output_dir: where results go, which are left out.
        images_only: videos are left out.
    """

    def __init__(self, found: Found, output_dir: str | os.PathLike[str] | None, images_only: bool) -> None:
        self.found, self.images_only = found, images_only
        self.output = None if output_dir is None else os.path.realpath(output_dir)
        self.real = RealPaths()

    def folder(self, path: str) -> Iterator[Source]:
        """All in a folder and below it; targets are relative to it."""
        for below in self._search().files(path):
            if self._is_wanted(below):
                yield local_source(os.path.join(path, below), below)

    def glob(self, given: str, pattern: str) -> Iterator[Source]:
        """What matches, and all in folders that match; targets are relative to where the glob begins.

        Args:
            given: the glob as the user wrote it.
            pattern: the same, a path.

        Raises:
            InvalidInput: nothing matches, not even what is left out.
        """
        start, parts, deep = globs.split(pattern)
        said, search, matched = suffix_of(pattern), self._search(), False
        # Unless the glob itself begins where results go.
        guarded = not self._is_result(start)
        for path in globs.expand(start, parts, self.found.problems):
            if guarded and self._is_result(path):
                matched = True
                self.found.left_out.counts[RESULT] += 1
            elif os.path.isdir(path or "."):
                matched = matched or not deep
                for below in search.files(path or "."):
                    if not deep or globs.matches(below.split(os.sep), deep):
                        matched = True
                        file = os.path.join(path, below)
                        if self._is_wanted(file, said if deep else ""):
                            yield local_source(file, _below(start, file))
            elif not deep:
                matched = True
                if self._is_wanted(path, said):
                    yield local_source(path, _below(start, path))
        if not matched:
            raise InvalidInput(f"{given}: nothing matches")

    def _search(self) -> FolderSearch:
        output = None if self.output is None else identity(self.output)
        return FolderSearch(output, self.found.left_out, self.found.problems)

    def _is_result(self, path: str) -> bool:
        """Whether a path is the folder that results go to, or lies in it."""
        real = self.real.of(path)
        return self.output is not None and (real == self.output or real.startswith(self.output.rstrip("/") + "/"))

    def _is_wanted(self, name: str, said: str = "") -> bool:
        """Whether a file that was come across is a source; counted if not. ``said``: the suffix that a glob ends in."""
        if is_image(name) or (is_video(name) and not self.images_only) or (said and suffix_of(name) == said):
            return True
        self.found.left_out.add(name)
        return False


def _below(start: str, path: str) -> str:
    return path[len(start) :].lstrip(os.sep)
