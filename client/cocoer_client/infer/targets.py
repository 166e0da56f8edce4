"""The files that a run would write, checked before anything is asked: nothing of the user's is overwritten."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cocoer_client.errors import InvalidInput
from cocoer_client.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Source
from cocoer_client.sources.folders import Identity, identity
from cocoer_client.sources.reading import local_path

OPTIONS = ("json", "jsonl", "csv", "coco", "parquet", "explain")


def check_targets(args: argparse.Namespace, sources: Sequence[Source]) -> None:
    """Look at what ``--json``, ``--jsonl``, ``--csv``, ``--explain`` and ``--output-dir`` name.

    Args:
        args: the command line.
        sources: what is to be read.

    Raises:
        InvalidInput: a file that is an input, or is named like an image or a video (of ``--csv *.jpg`` the shell makes
            a list of images); one file for two things; a directory, or where nothing can be written; a folder of
            inputs that is the output's.
    """
    given = [(name, value) for name in OPTIONS if (value := getattr(args, name)) not in (None, "-")]
    given += [("timeline", value) for value in args.timeline]
    targets = [(f"--{name}", Path(value)) for name, value in given]
    # With the user's tables of names, which are no sources themselves.
    inputs = [*(source.name for source in sources if source.is_file), *map(local_path, args.inputs)]
    if args.persons:
        inputs.append(str(args.persons))
    read = _files_of(inputs) if any(path.exists() for _, path in targets) else set()
    taken: dict[str, str] = {}
    for option, path in targets:
        if path.is_dir():
            raise InvalidInput(f"{option} {path} is a directory; name a file in it")
        _check_writable(option, path)
        if identity(str(path)) in read:
            raise InvalidInput(f"{option} {path} is an input, and would be overwritten; name another file")
        is_picture = path.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES
        if is_picture and (option, path.suffix.lower()) != ("--timeline", ".png"):
            raise InvalidInput(f"{option} {path} is named like an image or a video; give the results another name")
        if other := taken.get(os.path.realpath(path)):
            raise InvalidInput(f"{other} and {option} both name {path}; give each its own file")
        taken[os.path.realpath(path)] = option
    if not args.no_images:
        _check_folders(args.inputs, args.output_dir)


def _files_of(names: Iterable[str]) -> set[Identity]:
    return {this for name in names if (this := identity(name)) is not None}


def _check_folders(inputs: Iterable[str], output_dir: Path) -> None:
    """Images of results in a folder of inputs would be inputs of the next run."""
    for given in inputs:
        folder = local_path(given)
        if os.path.isdir(folder) and os.path.realpath(folder) == os.path.realpath(output_dir):
            raise InvalidInput(
                f"annotated images would go into {given}, where the next run takes them for inputs; give another "
                "--output-dir, or --no-images"
            )


def _check_writable(option: str, path: Path) -> None:
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if existing != path.absolute() and not existing.is_dir():
        raise InvalidInput(f"{option} {path}: {existing} is no directory; name a file in one")
    if not os.access(existing, os.W_OK) or (path.is_file() and not os.access(existing.parent, os.W_OK)):
        raise InvalidInput(f"{option} {path} can't be written there; name a file in a directory of yours")
