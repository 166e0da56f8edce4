"""Results of a batch run as rows of a Parquet file: one for each image, its persons in a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Annotated, Any, Literal, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel

from cocoer_client.results import Box, ModelInfo, Person

LEFT_OUT = frozenset({"refined", "coordination"})
"""Of a person: what explains the answer, and would double the table."""
SCALARS = {bool: pa.bool_(), int: pa.int32(), float: pa.float32(), str: pa.string()}


def struct_of(model: type[BaseModel], left_out: Set[str] = frozenset()) -> pa.StructType:
    """The Arrow type of a part of RESULT, field by field."""
    fields = model.model_fields.items()
    return pa.struct([(name, arrow_type(field.annotation)) for name, field in fields if name not in left_out])


def arrow_type(annotation: Any) -> pa.DataType:
    """The Arrow type of a field.

    >>> arrow_type(tuple[str, ...])
    ListType(list<item: string>)
    >>> arrow_type(Mapping[Literal["a", "b"], float])
    StructType(struct<a: float, b: float>)
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return arrow_type(arguments[0])
    if origin is Literal:
        return arrow_type(type(arguments[0]))
    if origin is tuple:
        return pa.list_(arrow_type(arguments[0]))
    if origin is Mapping:  # from the names of a Literal
        return pa.struct([(name, arrow_type(arguments[1])) for name in get_args(arguments[0])])
    if annotation is Box:
        return pa.list_(pa.int32())
    if annotation in SCALARS:
        return SCALARS[annotation]
    return struct_of(annotation)


PERSON = struct_of(Person, LEFT_OUT)
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("error", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("persons", pa.list_(PERSON)),
        ("model", struct_of(ModelInfo)),
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
