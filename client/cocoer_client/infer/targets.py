"""The files that ``cocoer-infer`` would write, checked before anything is asked."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cocoer_client.errors import InvalidInput
from cocoer_client.sources import Source
from cocoer_client.sources.reading import local_path
from cocoer_client.sources.targets import check_files

OPTIONS = ("json", "jsonl", "csv", "coco", "parquet", "explain")


def check_targets(args: argparse.Namespace, sources: Sequence[Source]) -> None:
    """Look at what ``--json``, ``--jsonl``, ``--csv``, ``--explain`` and ``--output-dir`` name.

    Args:
        args: the command line.
        sources: what is to be read.

    Raises:
        InvalidInput: a file that can't be meant (``check_files``); a folder of inputs that is the output's.
    """
    given = [(name, value) for name in OPTIONS if (value := getattr(args, name)) not in (None, "-")]
    given += [("timeline", value) for value in args.timeline]
    # With the user's tables of names, which are no sources themselves.
    inputs = [*(source.name for source in sources if source.is_file), *map(local_path, args.inputs)]
    if args.persons:
        inputs.append(str(args.persons))
    check_files([(f"--{name}", Path(value)) for name, value in given], inputs, images_by=("--timeline", ".png"))
    if not args.no_images:
        _check_folders(args.inputs, args.output_dir)


def _check_folders(inputs: Iterable[str], output_dir: Path) -> None:
    """Images of results in a folder of inputs would be inputs of the next run."""
    for given in inputs:
        folder = local_path(given)
        if os.path.isdir(folder) and os.path.realpath(folder) == os.path.realpath(output_dir):
            raise InvalidInput(
                f"annotated images would go into {given}, where the next run takes them for inputs; give another "
                "--output-dir, or --no-images"
            )
