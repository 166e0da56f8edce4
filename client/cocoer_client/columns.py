"""The table that ``--csv`` writes: a row for each person. Its boxes and lists are those of ``results.Person``.

A spreadsheet takes a cell that begins like a formula for one, and a file may have such a name. So these cells begin
with an apostrophe, and control characters, which split rows or worse, are written as escapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cocoer_client.reading import warnings_of
from cocoer_client.results import BOXES, LISTS, Box
from cocoer_client.terminal import printable

FORMULA = ("=", "+", "-", "@")
"""How a cell begins that a spreadsheet computes; so do a tab and a carriage return, which are escaped anyway."""


def column_names(labels: Sequence[str]) -> list[str]:
    """In their order; ``labels`` are RESULT's, each with a column of its final probability."""
    corners = [_corner(box, name) for box in BOXES for name in Box._fields]
    # The last two came later; scripts may count columns.
    last = ["warnings", "error", "time_s", "track"]
    return ["file", "frame", "person", *corners, *LISTS, *map(_probability, labels), *last]


def _corner(box: str, name: str) -> str:
    return f"{box.removesuffix('_box')}_{name}"


def _probability(label: str) -> str:
    return f"p({label})"


def rows_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A record's rows, column -> value: one for each person, or one for an image without any or with an error."""
    return [{name: cell(value) for name, value in row.items()} for row in plain_rows(record)]


def cell(value: Any) -> Any:
    r"""What is written for a value: text that no program takes for anything else.

    >>> cell("=1+1"), cell("b\rc.jpg"), cell(-0.5)
    ("'=1+1", 'b\\x0dc.jpg', -0.5)
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def plain_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same as ``rows_of``, before values are made fit for spreadsheets."""
    common = {"file": record["file"], **{name: record.get(name, "") for name in ("frame", "time_s")}}
    if "error" in record:
        return [{**common, "error": record["error"]["message"]}]
    common["warnings"] = "; ".join(warnings_of(record))
    rows = []
    for person in record["persons"]:
        row = {**common, "person": person["id"], "track": person.get("track", "")}
        for box in BOXES:
            row |= {_corner(box, name): value for name, value in zip(Box._fields, person[box])}
        row |= {key: ";".join(person[key]) for key in LISTS}
        row |= {_probability(label): round(p, 6) for label, p in zip(record["labels"], person["scores"]["pred"])}
        rows.append(row)
    return rows or [common]
