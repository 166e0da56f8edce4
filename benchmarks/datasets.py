"""Annotated data sets as their authors give them: EMOTIC (``.mat`` and CSV), CAER-S (a folder for each class)."""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.io import loadmat
from scipy.io.matlab import MatReadError

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


def label_of(text: str) -> str:
    """A category's name as the network's labels write it.

    >>> label_of("Doubt/Confusion"), label_of(" Happiness ")
    ('doubt / confusion', 'happiness')
    """
    plain = text.strip().lower()
    return SPELLINGS.get(plain.replace(" ", ""), plain)


def read_emotic(annotations: Path, images: Path, split: str) -> list[Example]:
    """EMOTIC's annotations.

    Args:
        annotations: the released ``Annotations.mat``; or a CSV with a row for each person: ``Folder``, ``Filename``,
            ``BBox`` (or ``X_min``, ``Y_min``, ``X_max``, ``Y_max``), and ``Categorical_Labels`` or a 0/1 column for
            each category; ``Head_BBox`` if there is one.
        images: the directory that holds ``folder/filename``.
        split: of the ``.mat``: train, val, test; a CSV is one split.

    Returns:
        images in the file's order.

    Raises:
        DatasetError: the file can't be read, or lacks something; names it.
    """
    if not annotations.is_file():
        raise DatasetError(f"{annotations}: no such file")
    rows = _mat_rows(annotations, split) if annotations.suffix.lower() == ".mat" else _csv_rows(annotations)
    examples: dict[Path, list[Subject]] = {}
    for image, subject in rows:
        examples.setdefault(images / image, []).append(subject)
    if not examples:
        raise DatasetError(f"{annotations}: no annotated person")
    return [Example(image, tuple(subjects)) for image, subjects in examples.items()]


def _mat_rows(annotations: Path, split: str) -> Iterator[tuple[Path, Subject]]:
    try:
        content = loadmat(annotations, simplify_cells=True)
    except (ValueError, NotImplementedError, OSError, MatReadError) as error:
        raise DatasetError(f"{annotations} is not a MATLAB 5 to 7 file ({error})") from error
    if split not in content:
        there = ", ".join(name for name in content if not name.startswith("__"))
        raise DatasetError(f"{annotations} has no split {split!r}; there are {there}")
    for entry in _as_list(content[split]):
        image = Path(str(entry["folder"])) / str(entry["filename"])
        for person in _as_list(entry["person"]):
            # Test and validation have several annotators, and what they say together.
            chosen = person.get("combined_categories")
            if chosen is None:
                chosen = person["annotations_categories"]["categories"]
            labels = frozenset(label_of(str(name)) for name in _as_list(chosen))
            yield image, Subject(_box(person["body_bbox"]), _optional_box(person.get("head_bbox")), labels)


def _as_list(value: Any) -> list[Any]:
    """MATLAB's arrays of one element come without the array."""
    if isinstance(value, (str, dict)):
        return [value]
    return list(value)


def _csv_rows(annotations: Path) -> Iterator[tuple[Path, Subject]]:
    with annotations.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        names = {name.strip().lower(): name for name in reader.fieldnames or ()}
        missing = [name for name in ("folder", "filename") if name not in names]
        if missing or not ("bbox" in names or "x_min" in names):
            there = ", ".join(reader.fieldnames or ())
            raise DatasetError(
                f"{annotations}: needs the columns Folder, Filename, BBox (or X_min, Y_min, X_max, Y_max); has {there}"
            )
        for number, raw in enumerate(reader, start=2):
            row = {key: raw[name] for key, name in names.items()}
            try:
                yield Path(row["folder"]) / row["filename"], _csv_subject(row)
            except (ValueError, SyntaxError, KeyError, TypeError) as error:
                raise DatasetError(f"{annotations}, line {number}: {error}") from error


def _csv_subject(row: Mapping[str, str]) -> Subject:
    if "bbox" in row:
        body = _box(ast.literal_eval(row["bbox"]))
    else:
        body = _box([float(row[name]) for name in ("x_min", "y_min", "x_max", "y_max")])
    head = _optional_box(ast.literal_eval(row["head_bbox"]) if row.get("head_bbox") else None)
    if "categorical_labels" in row:
        labels = ast.literal_eval(row["categorical_labels"])
    else:
        labels = [name for name, value in row.items() if _is_one(value) and name not in NOT_CATEGORIES]
    return Subject(body, head, frozenset(map(label_of, labels)))


NOT_CATEGORIES = {
    *("", "index", "folder", "filename", "width", "height", "x_min", "y_min", "x_max", "y_max", "age", "gender"),
    *("valence", "arousal", "dominance", "crop_name", "arr_name", "image size"),
}
"""Columns of a CSV with a column for each category that are none, in small letters."""


def _is_one(value: str) -> bool:
    try:
        return float(value) == 1
    except (TypeError, ValueError):
        return False


def _box(values: Sequence[float]) -> Box:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2


def _optional_box(values: Any) -> Box | None:
    return None if values is None or len(values) == 0 else _box(values)


def read_caers(images: Path, classes: Mapping[str, str]) -> list[Example]:
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
    return examples


def check_labels(examples: Sequence[Example], labels: Sequence[str]) -> None:
    """Raise ``DatasetError`` where a data set has categories that the served weights don't know."""
    unknown = sorted({label for example in examples for one in example.subjects for label in one.labels} - set(labels))
    if unknown:
        raise DatasetError(
            f"the served weights have no label {', '.join(map(repr, unknown))}; they know {', '.join(labels)}. "
            "For folders, --map NAME=LABEL tells which one is meant, --map NAME= leaves one out"
        )
