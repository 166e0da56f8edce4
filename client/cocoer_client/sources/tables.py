"""Parquet files of names: a column of them, a batch at a time. Needs PyArrow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from cocoer_client.errors import InvalidInput
from cocoer_client.optional import needs
from cocoer_client.sources.buckets import open_bucket, reason_of
from cocoer_client.sources.reading import kind_of

SUFFIX = ".parquet"
SHOWN = 5
"""Rows named in a message."""


def names_in(given: str, path: str, column: str, problems: list[str]) -> Iterator[str]:
    """The names in a column, in the order of the rows.

    Args:
        given: the table as the user calls it: a Parquet file, or a folder of them.
        path: the same, a path or a URL of a bucket.
        column: holds names of images.
        problems: gets one message about all rows that have none.

    Raises:
        InvalidInput: it can't be read, or has no such column.
    """
    needs(given, "pyarrow", extra="tables")
    import pyarrow as pa

    nameless: list[int] = []
    row = 0
    try:
        for batch in _batches(given, path, column):
            for name in batch.column(0).to_pylist():
                if isinstance(name, str) and name:
                    yield name
                else:
                    nameless.append(row)
                row += 1
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(f"{given}: can't be read: {reason_of(error)}") from error
    if nameless:
        shown = ", ".join(map(str, nameless[:SHOWN])) + (", ..." if len(nameless) > SHOWN else "")
        several = len(nameless) > 1
        problems.append(
            f"{given}: {len(nameless)} of {row} rows {'have' if several else 'has'} no name in column {column!r} "
            f"(row{'s' if several else ''} {shown}, counted from 0)"
        )


def _batches(given: str, path: str, column: str) -> Iterator[Any]:
    import pyarrow.dataset as ds

    filesystem = None
    if kind_of(path) == "bucket":
        filesystem, path = open_bucket(path)
    else:
        path = os.path.abspath(path)
    dataset = ds.dataset(path, filesystem=filesystem, format="parquet")
    if column not in dataset.schema.names:
        raise InvalidInput(
            f"{given} has no column {column!r} of names; --column says which (it has {', '.join(dataset.schema.names)})"
        )
    for fragment in dataset.get_fragments():
        yield from fragment.to_batches(columns=[column])
