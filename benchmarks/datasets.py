"""Annotated data sets: what their readers return, and CAER-S (a folder for each class); EMOTIC is in ``emotic.py``."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cocoer_client.sources import IMAGE_SUFFIXES

Box = tuple[float, float, float, float]
SPELLINGS = {"disquitement": "disquietment", "doubt/confusion": "doubt / confusion"}
"""How EMOTIC's files write what the network's labels write otherwise, in small letters."""


class DatasetError(Exception):
    """A data set that can't be used; the message names the file and what to do."""


@dataclass(frozen=True)
class Subject:
    """An annotated person."""

    body: Box | None
    """x1, y1, x2, y2 in pixels; None: the whole image is annotated, and the server finds the person."""
    head: Box | None
    """None: the face detector finds it."""
    labels: frozenset[str]
    """In the network's spelling."""


@dataclass(frozen=True)
class Example:
    """An image and the persons annotated in it."""

    image: Path
    subjects: tuple[Subject, ...]
    size: tuple[int, int] | None = None
    """Width and height that the boxes refer to, where the file may be a reduced copy (``.npy``)."""


@dataclass(frozen=True)
class DataSet:
    """What was read, and what was left out."""

    examples: list[Example]
    edition: str = ""
    """Which edition the file is, by its numbers of persons; for people."""
    dropped: list[str] = field(default_factory=list)
    """Persons that can't be used, each with its image and the reason."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the figures should know of the images."""

    def dropped_summary(self) -> str:
        """How many persons were left out, and why.

        >>> DataSet([], "", ["a.jpg: person 2: the body box [1, 2, 1, 2] is empty"]).dropped_summary()
        '1 persons dropped: the body box is empty (1)'
        """
        reasons = Counter(re.sub(r" \[.*\]", "", text.rpartition(": ")[2]) for text in self.dropped)
        told = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        return f"{len(self.dropped)} persons dropped" + (f": {told}" if told else "")

    def sample(self, limit: int | None, seed: int) -> DataSet:
        """A random sample of the images, in the file's order; all of them without a limit."""
        if limit is None or limit >= len(self.examples):
            return self
        chosen = sorted(random.Random(seed).sample(range(len(self.examples)), limit))
        note = f"A random sample of {limit} of {len(self.examples)} images (seed {seed})."
        return replace(self, examples=[self.examples[index] for index in chosen], notes=[note, *self.notes])


def label_of(text: str) -> str:
    """A category's name as the network's labels write it.

    >>> label_of("Doubt/Confusion"), label_of(" Happiness ")
    ('doubt / confusion', 'happiness')
    """
    plain = text.strip().lower()
    return SPELLINGS.get(plain.replace(" ", ""), plain)


def read_caers(images: Path, classes: Mapping[str, str]) -> DataSet:
    """CAER-S and what looks like it: a folder for each class, images in it; who is meant is not annotated.

    Args:
        images: the directory of the folders.
        classes: folder -> the network's label; others are taken by their own names. An empty label leaves one out.

    Raises:
        DatasetError: no images.
    """
    examples = []
    for folder in sorted(path for path in images.iterdir() if path.is_dir()) if images.is_dir() else []:
        label = classes.get(folder.name, label_of(folder.name))
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if label:
            examples += [Example(path, (Subject(None, None, frozenset([label])),)) for path in files]
    if not examples:
        raise DatasetError(f"{images}: no folders with images, one for each class")
    return DataSet(examples)


def check_labels(examples: Sequence[Example], labels: Sequence[str]) -> None:
    """Raise ``DatasetError`` where a data set has categories that the served weights don't know."""
    unknown = sorted({label for example in examples for one in example.subjects for label in one.labels} - set(labels))
    if unknown:
        raise DatasetError(
            f"the served weights have no label {', '.join(map(repr, unknown))}; they know {', '.join(labels)}. "
            "For folders, --map NAME=LABEL tells which one is meant, --map NAME= leaves one out"
        )
