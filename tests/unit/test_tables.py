"""Tables of results: what pandas and PyArrow find in them, without their metadata."""

import doctest

import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from cocoer_client import tables
from cocoer_client.errors import InvalidRequest
from cocoer_client.results import LISTS
from tests.batch_fakes import LABELS, MODEL, PERSON, RESULT

TWO = {**RESULT, "persons": [PERSON, {**PERSON, "id": 2, "pred": [], "body_box": [1, 2, 4, 8]}]}
DAMAGED = {**RESULT, "persons": [], "image": {"width": 6, "height": 10, "damage": "cut off"}}


@pytest.fixture(params=tables.LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture
def written(tmp_path, layout):
    """A data set of two files: two persons and an error, then nobody, without the metadata."""
    error = InvalidRequest("IMAGE is empty")
    rows = tables.rows_of(layout, {"path": "two.jpg"}, TWO)
    rows.append(tables.failed_row({"path": "bad.jpg"}, type(error).__name__, str(error)))
    for number, some in enumerate([rows, tables.rows_of(layout, {"path": "nobody.jpg"}, DAMAGED)]):
        table = tables.table_of(some, tables.schema_of(layout, LABELS))
        assert table.schema.metadata[b"labels"].decode().split("\n") == list(LABELS)
        path = tmp_path / f"shard={number:05d}" / "part.parquet"
        path.parent.mkdir()
        pq.write_table(table.replace_schema_metadata(None), path)
    return tmp_path


def test_columns_of_images():
    """Their names, types and order are what users' queries read."""
    labels = ", ".join(f"{name}: list<item: string>" for name in LISTS)
    by_label = "struct<peace: float, doubt/confusion: float>"
    scores = ", ".join(f"{name}: {by_label}" for name in ("pred", "VI", "head", "body", "ctx"))
    person = (
        f"struct<id: int32, body_box: list<item: int32>, head_box: list<item: int32>, {labels}, "
        f"scores: struct<{scores}>, losses: struct<head: float, body: float, context: float>>"
    )
    model = "detector: string, channel_order: string, coordination_step: float, precision: string"
    schema = tables.schema_of("images", ("peace", "doubt/confusion"))
    assert [(field.name, str(field.type)) for field in schema] == [
        ("path", "string"),
        ("error", "string"),
        ("width", "int32"),
        ("height", "int32"),
        ("persons", f"list<item: {person}>"),
        ("model", f"struct<version: string, weights: string, synthetic: bool, {model}>"),
        ("warnings", "list<item: string>"),
    ]
    assert doctest.testmod(tables).failed == 0


def test_columns_of_persons():
    corners = [f"{part}_{corner}" for part in ("body", "head") for corner in ("x1", "y1", "x2", "y2")]
    expected = {"path": "string", **dict.fromkeys(["width", "height", "person", *corners], "int32")}
    expected |= dict.fromkeys(LISTS, "list<item: string>")
    expected |= {"p(peace)": "float", "p(doubt/confusion)": "float"}
    expected |= {"weights": "string", "warnings": "list<item: string>", "error": "string"}
    schema = tables.schema_of("persons", ("peace", "doubt/confusion"))
    assert [(field.name, str(field.type)) for field in schema] == list(expected.items())


def test_pandas(written, layout):
    frame = pd.read_parquet(written)
    if layout == "images":
        assert list(frame.path) == ["two.jpg", "bad.jpg", "nobody.jpg"]
        persons = frame.persons[0]
        assert [person["scores"]["pred"]["peace"] for person in persons] == [0.75, 0.75]
        assert persons[1]["scores"]["ctx"]["doubt/confusion"] == 0.25
        assert frame.persons[1] is None
        assert frame.model[0] == MODEL
    else:
        assert list(frame.path) == ["two.jpg", "two.jpg", "bad.jpg", "nobody.jpg"]
        people = frame[frame.person.notna()]
        assert list(people["p(peace)"]) == [0.75, 0.75]
        assert people["p(doubt/confusion)"].mean() == 0.25
        assert list(people.body_x1) == [0, 1]
        assert [list(pred) for pred in people.pred] == [["peace"], []]
        assert set(people.weights) == {"w"}
    assert list(frame.error.dropna()) == ["InvalidRequest: IMAGE is empty"]
    assert [list(warnings) for warnings in frame.warnings.dropna()][-1] == ["DAMAGED IMAGE: cut off"]


def test_pyarrow(written, layout):
    data = ds.dataset(written, partitioning="hive")
    if layout == "persons":
        column = data.to_table(columns=["p(peace)"], filter=ds.field("person").is_valid())["p(peace)"]
        assert column.to_pylist() == [0.75, 0.75]
    else:
        rows = data.to_table(columns=["path", "persons"]).to_pylist()
        peace = [person["scores"]["pred"]["peace"] for row in rows for person in row["persons"] or []]
        assert peace == [0.75, 0.75]


def test_frames():
    place = {"path": "film.mp4", "frame": 7, "time_s": 0.28}
    schema = tables.schema_of("persons", LABELS, (*tables.PATH, *tables.FRAME))
    (row,) = tables.table_of(tables.rows_of("persons", place, RESULT), schema).to_pylist()
    assert (row["path"], row["frame"], row["time_s"], row["person"]) == ("film.mp4", 7, 0.28, 1)


def test_without_an_answer_nobody_knows_the_labels(layout, tmp_path):
    """And the table can be written all the same."""
    row = tables.failed_row({"path": "bad.jpg"}, "ServerError", "failed")
    pq.write_table(tables.table_of([row], tables.schema_of(layout, ())), tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet")["error"].to_pylist() == ["ServerError: failed"]
