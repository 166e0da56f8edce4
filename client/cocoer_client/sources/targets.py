"""The files that a command would write, checked before anything is asked: nothing of the user's is overwritten."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cocoer_client.errors import InvalidInput
from cocoer_client.sources.folders import Identity, identity
from cocoer_client.sources.formats import IMAGE_SUFFIXES, VIDEO_SUFFIXES

Target = tuple[str, Path]
"""An option, as the user writes it, and the file that it names."""


def check_files(targets: Sequence[Target], inputs: Iterable[str], images_by: tuple[str, str] | None = None) -> None:
    """Look at the files that options name.

    Args:
        targets: all of them.
        inputs: paths of what is read.
        images_by: an option and a suffix: what it names may be an image.

    Raises:
        InvalidInput: a file that is an input, or is named like an image or a video (of ``--csv *.jpg`` the shell makes
            a list of images); one file for two things; a directory, or where nothing can be written.
    """
    read = _files_of(inputs) if any(path.exists() for _, path in targets) else set()
    taken: dict[str, str] = {}
    for option, path in targets:
        if path.is_dir():
            raise InvalidInput(f"{option} {path} is a directory; name a file in it")
        _check_writable(option, path)
        if identity(str(path)) in read:
            raise InvalidInput(f"{option} {path} is an input, and would be overwritten; name another file")
        is_picture = path.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES
        if is_picture and (option, path.suffix.lower()) != images_by:
            raise InvalidInput(f"{option} {path} is named like an image or a video; give the results another name")
        if other := taken.get(os.path.realpath(path)):
            raise InvalidInput(f"{other} and {option} both name {path}; give each its own file")
        taken[os.path.realpath(path)] = option


def _files_of(names: Iterable[str]) -> set[Identity]:
    return {this for name in names if (this := identity(name)) is not None}


def _check_writable(option: str, path: Path) -> None:
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if existing != path.absolute() and not existing.is_dir():
        raise InvalidInput(f"{option} {path}: {existing} is no directory; name a file in one")
    if not os.access(existing, os.W_OK) or (path.is_file() and not os.access(existing.parent, os.W_OK)):
        raise InvalidInput(f"{option} {path} can't be written there; name a file in a directory of yours")
