"""What is written of an image or frame: RESULT, or why there is none, with where it is from and what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Record = dict[str, Any]
"""A result: ``file``; of a frame, ``frame``, ``time_s``, ``last``, ``shot``; ``picture`` (the annotated image or
video), ``source``, ``options`` where there are any, ``asked``; then RESULT's keys, or ``error`` with ``kind`` and
``message`` (and ``model``, which was asked). Persons of a frame have ``track``, and ``smoothed`` if that was asked for.
"""


def has_failed(record: Mapping[str, Any]) -> bool:
    """Whether there is no result."""
    return "error" in record


def place_of(record: Record) -> str:
    """Its name, for messages.

    >>> place_of({"file": "a.png"}), place_of({"file": "film.mp4", "frame": 7})
    ('a.png', 'film.mp4 frame 7')
    """
    return f"{record['file']} frame {record['frame']}" if "frame" in record else str(record["file"])
