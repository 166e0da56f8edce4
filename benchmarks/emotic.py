"""EMOTIC's annotations as people have them: the released ``.mat``, CSV files, and the archive of arrays."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from benchmarks.datasets import Box, DataSet, DatasetError, Example, Subject, label_of

EDITIONS = {"Annotations.mat": (23706, 3334, 7280), "CVPR17_Annotations.mat": (16001, 2397, 5368)}
"""Persons in train, val and test of the two releases."""
SPLITS = ("train", "val", "test")
NOT_CATEGORIES = {
    *("", "index", "folder", "filename", "width", "height", "x_min", "y_min", "x_max", "y_max", "age", "gender"),
    *("valence", "arousal", "dominance", "crop_name", "arr_name", "image size", "bbox", "head_bbox"),
}
"""Columns of a CSV with a column for each category that are none, in small letters."""
NUMBER = re.compile(r"nan|inf|[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
"""A name in a list as Python or NumPy writes it."""
NO_CATEGORY = "nobody annotated a category"


class UnusablePerson(ValueError):
    """A person that can't be scored; the message is the reason."""


@dataclass(frozen=True)
class Row:
    """A person as a file has it."""

    image: Path
    subject: Subject | None
    problem: str = ""
    """Why there is no subject."""
    size: tuple[int, int] | None = None


def read_emotic(annotations: Path, images: Path, split: str) -> DataSet:
    """EMOTIC's annotations.

    Args:
        annotations: the released ``.mat`` of either edition; or a CSV with a row for each person: ``Folder``,
            ``Filename``, ``BBox`` (or ``X_min``, ``Y_min``, ``X_max``, ``Y_max``), and ``Categorical_Labels`` or a 0/1
            column for each category; ``Head_BBox`` if there is one. With ``Arr_name`` the images are ``.npy`` files.
        images: the directory that holds ``folder/filename``, or the arrays (or their ``img_arrs``).
        split: of the ``.mat``: train, val, test; a CSV is one split.

    Returns:
        images in the file's order; persons without a category or with an unusable box are left out and listed.

    Raises:
        DatasetError: the file can't be read, or lacks something; names it.
    """
    if not annotations.is_file():
        raise DatasetError(f"{annotations}: no such file")
    if annotations.suffix.lower() == ".mat":
        content = _load(annotations, split)
        rows, edition = list(_mat_rows(annotations, content[split])), _edition(content)
    else:
        rows = list(_csv_rows(annotations))
        edition = _edition_of_one_split(len(rows))
    examples: dict[Path, list[Subject]] = {}
    sizes, dropped = {}, []
    for row in rows:
        if row.subject is None:
            dropped.append(f"{row.image}: {row.problem}")
            continue
        examples.setdefault(row.image, []).append(row.subject)
        sizes[row.image] = row.size
    if not examples:
        raise DatasetError(f"{annotations}: no annotated person")
    arrays = any(path.suffix == ".npy" for path in examples)
    if arrays and not (images / next(iter(examples))).is_file():
        images = images / "img_arrs"
    found = [Example(images / path, tuple(subjects), sizes[path]) for path, subjects in examples.items()]
    return DataSet(found, edition, dropped, [_ARRAYS] if arrays else [])


_ARRAYS = (
    "The images are arrays (.npy), which are reduced copies in most archives: boxes are scaled to them. Figures of "
    "reduced images can't be compared with the paper's."
)


def _load(annotations: Path, split: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = loadmat(annotations, simplify_cells=True)
    except (ValueError, NotImplementedError, OSError, MatReadError) as error:
        raise DatasetError(f"{annotations} is not a MATLAB 5 to 7 file ({error})") from error
    if split not in content:
        there = ", ".join(name for name in content if not name.startswith("__"))
        raise DatasetError(f"{annotations} has no split {split!r}; there are {there}")
    return content


def _edition(content: Mapping[str, Any]) -> str:
    """By the numbers of persons in its splits."""
    counts = {
        name: sum(len(_as_list(entry["person"])) for entry in _as_list(content[name]))
        for name in SPLITS
        if name in content
    }
    told = ", ".join(f"{count} persons in {name}" for name, count in counts.items())
    known = (name for name, numbers in EDITIONS.items() if tuple(counts.values()) == numbers)
    return f"{next(known, 'not a known one')} ({told})"


def _edition_of_one_split(count: int) -> str:
    splits = {number: f"{split} of {name}" for name, known in EDITIONS.items() for split, number in zip(SPLITS, known)}
    return f"{splits.get(count, 'not a known one')} ({count} persons)"


def _mat_rows(annotations: Path, entries: Any) -> Iterator[Row]:
    for entry in _as_list(entries):
        try:
            image = Path(str(entry["folder"])) / str(entry["filename"])
            persons = _as_list(entry["person"])
        except (KeyError, TypeError, IndexError) as error:
            raise DatasetError(f"{annotations}: an entry lacks {error}") from error
        for number, person in enumerate(persons, start=1):
            try:
                labels = _labels(person)
                yield Row(image, Subject(_box(person.get("body_bbox")), _optional_box(person.get("head_bbox")), labels))
            except UnusablePerson as error:
                yield Row(image, None, f"person {number}: {error}")


def _labels(person: Mapping[str, Any]) -> frozenset[str]:
    """What the annotators say together; where the file does not have that, the union."""
    names = _as_list(person.get("combined_categories"))
    if not names:
        annotators = [one for one in _as_list(person.get("annotations_categories")) if isinstance(one, Mapping)]
        names = [name for one in annotators for name in _as_list(one.get("categories"))]
    labels = frozenset(label_of(str(name)) for name in names if str(name).strip())
    if not labels:
        raise UnusablePerson(NO_CATEGORY)
    return labels


def _as_list(value: Any) -> list[Any]:
    """MATLAB's arrays of one element come without the array."""
    if value is None:
        return []
    return [value] if isinstance(value, (str, dict)) else list(value)


def _csv_rows(annotations: Path) -> Iterator[Row]:
    with annotations.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        names = {name.strip().lower(): name for name in reader.fieldnames or ()}
        named = "arr_name" in names or {"folder", "filename"} <= set(names)
        if not named or not ("bbox" in names or "x_min" in names):
            there = ", ".join(reader.fieldnames or ())
            raise DatasetError(
                f"{annotations}: needs the columns Folder, Filename, BBox (or X_min, Y_min, X_max, Y_max); has {there}"
            )
        for number, raw in enumerate(reader, start=2):
            row = {key: raw[name] for key, name in names.items()}
            try:
                yield _csv_row(row, number)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DatasetError(f"{annotations}, line {number}: {error}") from error


def _csv_row(row: Mapping[str, str], line: int) -> Row:
    is_array = bool(row.get("arr_name"))
    image = Path(row["arr_name"]) if is_array else Path(row["folder"]) / row["filename"]
    size = (int(float(row["width"])), int(float(row["height"]))) if is_array and row.get("width") else None
    try:
        return Row(image, _csv_subject(row), size=size)
    except UnusablePerson as error:
        return Row(image, None, f"line {line}: {error}")


def _csv_subject(row: Mapping[str, str]) -> Subject:
    if "x_min" in row:
        body = _box([float(row[name] or "nan") for name in ("x_min", "y_min", "x_max", "y_max")])
    else:
        body = _box(_numbers(row["bbox"]))
    head = _optional_box(_numbers(row.get("head_bbox") or ""))
    if "categorical_labels" in row:
        labels = [single or double for single, double in QUOTED.findall(row["categorical_labels"])]
    else:
        labels = [name for name, value in row.items() if _is_one(value) and name not in NOT_CATEGORIES]
    if not labels:
        raise UnusablePerson(NO_CATEGORY)
    return Subject(body, head, frozenset(map(label_of, labels)))


def _numbers(text: str) -> list[float]:
    """The numbers of a list as Python or NumPy writes it; ``nan`` is one.

    >>> _numbers("[86, 58, 564.5, nan]"), _numbers("[ 86  58 -1e2]")
    ([86.0, 58.0, 564.5, nan], [86.0, 58.0, -100.0])
    """
    return [float(number) for number in NUMBER.findall(text)]


def _is_one(value: str) -> bool:
    try:
        return float(value) == 1
    except (TypeError, ValueError):
        return False


def _box(values: Sequence[float] | None) -> Box:
    """Four finite numbers with x1 < x2 and y1 < y2; what lies outside the image is the server's to clip."""
    numbers = [] if values is None else [float(value) for value in values]
    if len(numbers) != 4:
        raise UnusablePerson(f"the body box has {len(numbers)} numbers instead of 4")
    x1, y1, x2, y2 = numbers
    if not all(map(math.isfinite, numbers)):
        raise UnusablePerson(f"the body box {numbers} is not finite")
    if x1 >= x2 or y1 >= y2:
        raise UnusablePerson(f"the body box {numbers} is empty")
    return x1, y1, x2, y2


def _optional_box(values: Any) -> Box | None:
    """A head that can't be used is looked for, as one that is absent."""
    try:
        return _box(values)
    except UnusablePerson:
        return None
