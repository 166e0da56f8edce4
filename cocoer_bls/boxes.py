"""Boxes (x1, y1, x2, y2) in pixels of the image: rounding, clamping, matching faces to persons. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cocoer_bls.errors import InputError
from cocoer_bls.images import CROP

Box = tuple[int, int, int, int]
TO_BE_FOUND = (0.0, 0.0, 0.0, 0.0)
"""As a head in ``PERSONS``: let the face detector find it."""


class Person(NamedTuple):
    """A body and a head, integer pixels, each with at least one pixel inside the image."""

    body: Box
    head: Box


class Given(NamedTuple):
    """A row of ``PERSONS``."""

    body: Box
    head: Box | None
    """None: to be found."""


def body_box(values: Sequence[float], width: int, height: int) -> Box:
    """Round to integers (halves to even, as Python and NumPy do), then clamp to the image.

    >>> body_box([-3.4, 10.6, 700.0, 99.5], 640, 480)
    (0, 11, 640, 100)
    """
    return _clamp([round(float(value)) for value in values], width, height)


def face_box(values: Sequence[float], width: int, height: int) -> Box:
    """Clamp to the image, then truncate to integers.

    >>> face_box([-3.4, 10.6, 700.0, 99.5], 640, 480)
    (0, 10, 640, 99)
    """
    return _clamp([float(value) for value in values], width, height)


def _clamp(values: Sequence[float], width: int, height: int) -> Box:
    x1, y1, x2, y2 = (int(min(max(value, 0), limit)) for value, limit in zip(values, (width, height, width, height)))
    return x1, y1, x2, y2


def is_empty(box: Box) -> bool:
    """Whether there is no pixel inside.

    >>> is_empty((5, 5, 5, 9)), is_empty((5, 5, 6, 9))
    (True, False)
    """
    return box[2] <= box[0] or box[3] <= box[1]


def match(bodies: Sequence[Box], faces: Sequence[Box]) -> list[Person]:
    """Give each body its head, as the release does.

    In the detector's order of bodies, each takes the first face whose left, right and horizontal middle lie within
    the body's left and right. Heights are not looked at, one face may serve several bodies, and a body without a face
    is dropped.

    >>> match([(0, 0, 50, 100), (60, 0, 90, 100)], [(10, 200, 20, 210), (5, 5, 30, 30)])
    [Person(body=(0, 0, 50, 100), head=(10, 200, 20, 210))]
    """
    persons = []
    for body in bodies:
        for face in faces:
            if all(body[0] <= x <= body[2] for x in (face[0], face[2], (face[0] + face[2]) // 2)):
                persons.append(Person(body, face))
                break
    return persons


def detected_persons(bodies: np.ndarray, faces: np.ndarray, width: int, height: int) -> list[Person]:
    """Detectors' boxes FP32 [N, 4] to persons; boxes without a pixel in the image are dropped."""
    return match(body_boxes(bodies, width, height), face_boxes(faces, width, height))


def body_boxes(bodies: np.ndarray, width: int, height: int) -> list[Box]:
    """A detector's bodies FP32 [N, 4]; those without a pixel in the image are dropped."""
    boxes = [body_box(row, width, height) for row in bodies]
    return [box for box in boxes if not is_empty(box)]


def face_boxes(faces: np.ndarray, width: int, height: int) -> list[Box]:
    """A detector's faces FP32 [N, 4]; those without a pixel in the image are dropped."""
    boxes = [face_box(row, width, height) for row in faces]
    return [box for box in boxes if not is_empty(box)]


def given_persons(rows: np.ndarray, width: int, height: int, max_persons: int) -> list[Given]:
    """``PERSONS`` FP32 [N, 8] (body, head), with the rounding of detected persons.

    Raises:
        InputError: too many, not finite, or a box with no pixel in the image; names the row.
    """
    if len(rows) > max_persons:
        raise InputError("persons", f"PERSONS has {len(rows)} rows, more than the allowed {max_persons}")
    persons = []
    for index, row in enumerate(rows):
        if not np.isfinite(row).all():
            raise InputError("persons", f"PERSONS row {index} is not finite: {_show(row)}")
        head = None if tuple(row[4:]) == TO_BE_FOUND else face_box(row[4:], width, height)
        person = Given(body_box(row[:4], width, height), head)
        for name, box, values in zip(person._fields, person, (row[:4], row[4:])):
            if box is not None and is_empty(box):
                raise InputError(
                    "persons",
                    f"PERSONS row {index}: the {name} box {_show(values)} has no pixel in the {width}x{height} image; "
                    "boxes are x1 y1 x2 y2 in pixels, x1 < x2, y1 < y2",
                )
        persons.append(person)
    return persons


def with_heads(given: Sequence[Given], faces: Sequence[Box]) -> dict[int, Person]:
    """Given persons by their number (row + 1); heads to be found are matched as the release does.

    >>> with_heads([Given((0, 0, 50, 90), None), Given((60, 0, 90, 90), None)], [(62, 5, 80, 30)])
    {2: Person(body=(60, 0, 90, 90), head=(62, 5, 80, 30))}
    """
    persons = {}
    for number, (body, head) in enumerate(given, start=1):
        for person in match([body], faces) if head is None else [Person(body, head)]:
            persons[number] = person
    return persons


def _show(values: np.ndarray) -> str:
    return "[" + ", ".join(f"{float(value):g}" for value in values) + "]"


def crop_box(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """A box in the image scaled to the network's 224 square, truncated as the release does.

    >>> crop_box((94, 20, 400, 512), 512, 512)
    (41, 8, 175, 224)
    """
    x, y = CROP / width, CROP / height
    return int(box[0] * x), int(box[1] * y), int(box[2] * x), int(box[3] * y)
