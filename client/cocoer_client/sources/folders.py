"""Folders on this machine, searched with all below them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from cocoer_client.sources.found import PIPE, RESULT, UPWARD, LeftOut

Identity = tuple[int, int]
"""Device and inode: the same folder by whatever name."""


def identity(path: str) -> Identity | None:
    """Of what a path leads to; None where that is nothing."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


@dataclass
class FolderSearch:
    """Searches folders; each real folder once, however many links lead to it.

    Args:
        output: identity of the folder that results go to, which is not searched below another.
        left_out: gets what is hidden, pipes, results. What is no image is the caller's to count.
        problems: gets folders that can't be read.
    """

    output: Identity | None
    left_out: LeftOut
    problems: list[str]
    seen: set[Identity] = field(default_factory=set)

    def files(self, root: str) -> Iterator[str]:
        """Paths of regular files, and of links to nothing, relative to ``root``.

        A folder's own files come before its subfolders, both in the order of their names; folders that links lead to
        come last. A link to one above the searched folder is not followed, since all beside it would be found.
        """
        above = _above(root)
        linked: list[str] = []
        yield from self._walk(root, "", linked)
        while linked:
            below = linked.pop(0)
            if identity(os.path.join(root, below)) in above:
                self.left_out.counts[UPWARD] += 1
            else:
                yield from self._walk(root, below, linked)

    def _walk(self, root: str, below: str, linked: list[str]) -> Iterator[str]:
        """Appends links to folders to ``linked``."""
        waiting = [below]
        while waiting:
            folder = waiting.pop()
            path = os.path.join(root, folder) if folder else root
            if not self._enter(path, is_root=not folder):
                continue
            files, folders = self._list(path)
            yield from (os.path.join(folder, name) for name in files)
            for name, is_link in folders:
                if is_link:
                    linked.append(os.path.join(folder, name))
            waiting += [os.path.join(folder, name) for name, is_link in reversed(folders) if not is_link]

    def _enter(self, path: str, is_root: bool) -> bool:
        this = identity(path)
        if this is None:
            return is_root  # and listing it says why
        if this in self.seen:
            return False
        if this == self.output and not is_root:
            self.left_out.counts[RESULT] += 1
            return False
        self.seen.add(this)
        return True

    def _list(self, path: str) -> tuple[list[str], list[tuple[str, bool]]]:
        """Names of files, and of folders with whether it is a link, both sorted."""
        files: list[str] = []
        folders: list[tuple[str, bool]] = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        self.left_out.add_hidden(entry.name, _is_folder(entry))
                    elif _is_folder(entry):
                        folders.append((entry.name, entry.is_symlink()))
                    elif _is_pipe(entry):
                        self.left_out.counts[PIPE] += 1
                    else:
                        files.append(entry.name)
        except OSError as error:
            self.problems.append(f"{path}: {error.strerror}; nothing in this folder is read")
        return sorted(files), sorted(folders)


def _above(root: str) -> set[Identity]:
    """Identities of the folders that a folder is in."""
    path, found = os.path.realpath(root), set()
    while (parent := os.path.dirname(path)) != path:
        path = parent
        found.add(identity(path))
    return {one for one in found if one is not None}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_pipe(entry: os.DirEntry[str]) -> bool:
    """Whether reading it would wait, or have no end; links to nothing are none: reading them says what is wrong."""
    try:
        if entry.is_file(follow_symlinks=False):
            return False
        return not stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return False
