"""A data set by the command line: the options that the commands share, and what they name."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.datasets import DataSet, DatasetError, read_caers
from benchmarks.emotic import read_emotic


def add_data_set(parser: argparse._ActionsContainer, seed: str = "of that sample") -> None:
    """``--dataset``, ``--annotations``, ``--images`` and so on; ``seed`` says what ``--seed`` is of."""
    add = parser.add_argument
    add("--dataset", choices=("emotic", "caer-s"), default="emotic", help="its format (default: emotic)")
    add("--annotations", type=Path, metavar="FILE", help="EMOTIC: Annotations.mat, or a CSV")
    add("--images", type=Path, required=True, metavar="DIR", help="holds EMOTIC's folder/file, or CAER-S's class/file")
    add("--split", default="test", choices=("train", "val", "test"), help="of a .mat (default: test)")
    add(
        "--map",
        action="append",
        type=_pair,
        default=[],
        metavar="NAME=LABEL",
        help="CAER-S: the label that a folder stands for",
    )
    add(
        "--missing-head",
        choices=("drop", "guess"),
        default="guess",
        help="where no face is found in an annotated body: guess the head (default), or leave the person out",
    )
    add("--limit", type=int, metavar="N", help="a random sample of N images")
    add("--seed", type=int, default=0, help=f"{seed} (default: 0)")
    add("--array-order", choices=("rgb", "bgr"), default="rgb", help="channels of .npy images (default: rgb)")


def _pair(text: str) -> tuple[str, str]:
    name, equals, label = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be NAME=LABEL, got {text}")
    return name, label


def check_data_set(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the program where they make no sense together."""
    if args.dataset == "emotic" and args.annotations is None:
        parser.error("--dataset emotic needs --annotations")
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")


def load(args: argparse.Namespace) -> DataSet:
    """The data set, or the sample of it; says on standard error what was read.

    Raises:
        DatasetError: it can't be read, or its images are not there.
    """
    if args.dataset == "emotic":
        data = read_emotic(args.annotations, args.images, args.split)
    else:
        data = read_caers(args.images, dict(args.map))
    data = data.sample(args.limit, args.seed)
    absent = [example.image for example in data.examples if not example.image.is_file()]
    if len(absent) == len(data.examples):
        raise DatasetError(f"none of the {len(absent)} images is there; the first is {absent[0]}. Is --images right?")
    edition = f"edition: {data.edition}; " if data.edition else ""
    print(f"{edition}{len(data.examples)} images, {data.dropped_summary()}", file=sys.stderr)
    return data
