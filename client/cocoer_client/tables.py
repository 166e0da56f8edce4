"""Results as rows of a table that says of itself what is in it: each probability stands under its label's name.

Two layouts: ``images``, a row for each image with its persons in a list, has all of them; ``persons``, a flat row for
each person, is what pandas, a spreadsheet or a model wants. Columns are made from ``results``, field by field. Imports
PyArrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Annotated, Any, Literal, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel

from cocoer_client.reading import warnings_of
from cocoer_client.results import BOXES, CHOSEN, LISTS, Box, ByLabel, ModelInfo, Person

Layout = Literal["images", "persons"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
LEFT_OUT = frozenset({"refined", "coordination"})
"""Of a person: what explains the answer, and would double the table."""
SCALARS = {bool: pa.bool_(), int: pa.int32(), float: pa.float32(), str: pa.string()}
PATH = (pa.field("path", pa.string()),)
"""The columns that say which image it is, of an image."""
FRAME = (pa.field("frame", pa.int32()), pa.field("time_s", pa.float64()))
"""Those beside it of a video's frame; null of an image."""
TEXTS = pa.list_(pa.string())


def arrow_type(annotation: Any) -> pa.DataType:
    """The Arrow type of a field of RESULT that is not by label.

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
    return SCALARS[annotation]


def struct_of(part: type[BaseModel], labels: Sequence[str], left_out: Set[str] = frozenset()) -> pa.StructType:
    """The Arrow type of a part of RESULT, field by field; lists of probabilities are structs of the labels."""
    kinds = {name: field.annotation for name, field in part.model_fields.items() if name not in left_out}
    if issubclass(part, ByLabel):
        return pa.struct([(name, pa.struct([(label, pa.float32()) for label in labels])) for name in kinds])
    fields = []
    for name, annotation in kinds.items():
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            # Where no server has answered, nobody knows the labels, and Parquet has no structs of nothing.
            if labels or not issubclass(annotation, ByLabel):
                fields.append((name, struct_of(annotation, labels)))
        else:
            fields.append((name, arrow_type(annotation)))
    return pa.struct(fields)


def schema_of(layout: Layout, labels: Sequence[str], place: Sequence[pa.Field] = PATH) -> pa.Schema:
    """The columns of a table.

    Args:
        layout: a row for each image, or for each person.
        labels: RESULT's; empty where there is no result.
        place: columns that say which image, or which frame, a row is of.

    Returns:
        ``error`` is null where there is a result; the others, but for ``place``, are null where there is an error. In
        the layout ``persons``, an image without persons is a row whose ``person`` is null.
    """
    size = [pa.field(name, pa.int32()) for name in ("width", "height")]
    warnings, error = pa.field("warnings", TEXTS), pa.field("error", pa.string())
    if layout == "images":
        persons = pa.list_(struct_of(Person, labels, LEFT_OUT))
        made = [pa.field("persons", persons), pa.field("model", struct_of(ModelInfo, labels)), warnings]
        columns = [*place, error, *size, *made]
    else:
        corners = [pa.field(corner(box, name), pa.int32()) for box in BOXES for name in Box._fields]
        lists = [pa.field(name, TEXTS) for name in LISTS]
        probabilities = [pa.field(probability(label), pa.float32()) for label in labels]
        person = [pa.field("person", pa.int32()), *corners, *lists, *probabilities]
        columns = [*place, *size, *person, pa.field("weights", pa.string()), warnings, error]
    return pa.schema(columns, metadata={"labels": "\n".join(labels)})


def corner(box: str, name: str) -> str:
    """The column of a box's corner.

    >>> corner("body_box", "x1")
    'body_x1'
    """
    return f"{box.removesuffix('_box')}_{name}"


def probability(label: str) -> str:
    """The column of a label's final probability."""
    return f"p({label})"


def rows_of(layout: Layout, place: Mapping[str, Any], result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An image's rows.

    Args:
        layout: as in ``schema_of``.
        place: values of the columns that say which image it is.
        result: RESULT, as the server sent it.
    """
    size = result["image"]
    facts = {**place, "width": size["width"], "height": size["height"], "warnings": warnings_of(result)}
    labels = result["labels"]
    if layout == "images":
        persons = [_nested(person, labels) for person in result["persons"]]
        return [{**facts, "persons": persons, "model": result["model"]}]
    facts["weights"] = result["model"]["weights"]
    return [{**facts, **dict(_flat(person, labels))} for person in result["persons"]] or [facts]


def failed_row(place: Mapping[str, Any], kind: str, message: str) -> dict[str, Any]:
    """An image's one row where there is no result, in either layout.

    >>> failed_row({"path": "a.jpg"}, "InvalidInput", "can't be read: No such file or directory")["error"]
    "InvalidInput: can't be read: No such file or directory"
    """
    return {**place, "error": f"{kind}: {message}"}


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table."""
    return pa.Table.from_pylist(list(rows), schema=schema)


def _nested(person: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    kept = {name: person[name] for name in Person.model_fields if name not in LEFT_OUT}
    return {**kept, "scores": {name: dict(zip(labels, person["scores"][name])) for name in CHOSEN}}


def _flat(person: Mapping[str, Any], labels: Sequence[str]) -> Iterator[tuple[str, Any]]:
    yield "person", person["id"]
    for box in BOXES:
        yield from ((corner(box, name), value) for name, value in zip(Box._fields, person[box]))
    yield from ((name, person[name]) for name in LISTS)
    yield from ((probability(label), value) for label, value in zip(labels, person["scores"]["pred"]))
