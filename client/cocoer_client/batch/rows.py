"""Results of a batch run as rows of a Parquet file: one for each image, its persons in a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

LABEL_LISTS = ("pred", "VI", "head", "body", "ctx")

_BOX = pa.list_(pa.int32())
_LABELS = pa.list_(pa.string())
PERSON = pa.struct(
    [
        ("id", pa.int32()),
        ("body_box", _BOX),
        ("head_box", _BOX),
        *((name, _LABELS) for name in LABEL_LISTS),
        ("emo_process", _LABELS),
        ("scores", pa.struct([(name, pa.list_(pa.float32())) for name in LABEL_LISTS])),
        ("losses", pa.struct([(level, pa.float32()) for level in ("head", "body", "context")])),
    ]
)
MODEL = pa.struct(
    [
        ("version", pa.string()),
        ("weights", pa.string()),
        ("synthetic", pa.bool_()),
        ("detector", pa.string()),
        ("channel_order", pa.string()),
        ("precision", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("error", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("persons", pa.list_(PERSON)),
        ("model", MODEL),
    ]
)
"""``error`` is null where there is a result; the others are null where there is an error. The order of the 26 scores is
that of ``labels`` in the schema's metadata."""


def row_of(path: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """An image's row from RESULT (docs/result.md)."""
    names = [field.name for field in PERSON]
    persons = [{name: person[name] for name in names} for person in result["persons"]]
    size = result["image"]
    return {
        "path": path,
        "width": size["width"],
        "height": size["height"],
        "persons": persons,
        "model": result["model"],
    }


def failed_row(path: str, error: Exception) -> dict[str, Any]:
    """An image's row where there is no result."""
    return {"path": path, "error": f"{type(error).__name__}: {error}"}


def table_of(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> pa.Table:
    """Rows as a table; ``labels`` are the 26 categories, empty where no image had a result."""
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    return table.replace_schema_metadata({"labels": "\n".join(labels)})
