"""Where records go: JSON, JSON Lines, CSV, Parquet."""

import csv
import json
import os
from pathlib import Path

import pytest

from cocoer_client import InvalidInput
from cocoer_client.columns import column_names, rows_of
from cocoer_client.sinks import CsvFile, JsonFile, JsonLinesFile, ParquetFile, parquet
from tests.results import make_person, make_result

BODY, HEAD = [0, 0, 60, 80], [10, 10, 30, 30]
FAILURE = {"file": "z.jpg", "error": {"kind": "InvalidRequest", "message": "not an image"}}


def result(file, persons=()):
    return {"file": file, **make_result((9, 9), list(persons))}


class TestJson:
    def test_one_and_several(self, tmp_path):
        for several, expected in ((True, [{"file": "a"}, {"file": "b"}]), (False, {"file": "a"})):
            with JsonFile(tmp_path / "x.json", several) as file:
                file.add({"file": "a"})
                file.add(FAILURE)
                if several:
                    file.add({"file": "b"})
                assert not (tmp_path / "x.json").exists() or several is False
            assert json.loads((tmp_path / "x.json").read_text()) == expected
        assert [path.name for path in tmp_path.iterdir()] == ["x.json"]

    def test_lines(self, tmp_path):
        with JsonLinesFile(tmp_path / "deep" / "x.jsonl") as file:
            file.add({"file": "a"})
            file.add(FAILURE)
        lines = (tmp_path / "deep" / "x.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [{"file": "a"}, FAILURE]


class TestCsv:
    def test_rows(self, tmp_path):
        persons = [make_person(1, BODY, HEAD, ("peace", "pain")), make_person(2, BODY, HEAD, ())]
        with CsvFile(tmp_path / "x.csv") as file:
            file.add({"file": "bad, name.jpg", "error": {"message": "not an image"}})
            file.add(result("a.jpg", persons))
            file.add(result("empty.jpg"))
        with (tmp_path / "x.csv").open(newline="") as written:
            rows = list(csv.DictReader(written))
        assert [(row["file"], row["person"], row["pred"]) for row in rows] == [
            ("bad, name.jpg", "", ""),
            ("a.jpg", "1", "pain;peace"),
            ("a.jpg", "2", ""),
            ("empty.jpg", "", ""),
        ]
        assert rows[0]["error"] == "not an image"
        assert rows[1]["p(peace)"] == "0.95"
        assert rows[1]["head_x2"] == "30"

    def test_columns(self):
        """Their names and order are what users' scripts read."""
        answer = make_result((9, 9), [make_person(1, BODY, HEAD, ())])
        boxes = [f"{part}_{corner}" for part in ("body", "head") for corner in ("x1", "y1", "x2", "y2")]
        lists = ["pred", "VI", "head", "body", "ctx", "emo_process"]
        probabilities = [f"p({label})" for label in answer["labels"]]
        names = ["file", "frame", "person", *boxes, *lists, *probabilities, "warnings", "error", "time_s", "track"]
        assert column_names(answer["labels"]) == names
        (row,) = rows_of({"file": "a.jpg", **answer})
        assert set(row) == set(names) - {"error"}
        assert set(rows_of({"file": "a.jpg", "error": {"message": "no"}})[0]) <= set(names)

    @pytest.mark.parametrize(
        ("name", "cell"),
        [
            ('=HYPERLINK("http://x")', '\'=HYPERLINK("http://x")'),
            ("+1.jpg", "'+1.jpg"),
            ("-1.jpg", "'-1.jpg"),
            ("@x.jpg", "'@x.jpg"),
            ("\t=1.jpg", "\\x09=1.jpg"),
            ("\r=1.jpg", "\\x0d=1.jpg"),
            ("a\rb\nc.jpg", "a\\x0db\\x0ac.jpg"),
            ("\x1b[2J.jpg", "\\x1b[2J.jpg"),
            (os.fsdecode(b"\xff.jpg"), "\\xff.jpg"),
            ("Zoë - 1+1=2.jpg", "Zoë - 1+1=2.jpg"),
        ],
    )
    def test_a_name_is_no_formula_and_no_row(self, name, cell, tmp_path):
        with CsvFile(tmp_path / "x.csv") as file:
            file.add(result(name))
            file.add({"file": name, "error": {"message": name}})
        raw = (tmp_path / "x.csv").read_bytes()
        assert len(raw.decode().splitlines()) == 3
        with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as written:
            rows = list(csv.DictReader(written))
        assert [row["file"] for row in rows] == [cell, cell]
        assert rows[1]["error"] == cell


class TestParquet:
    def test_rows(self, tmp_path, monkeypatch):
        """Row groups of what is there; failures before the first answer wait for its labels."""
        pq = pytest.importorskip("pyarrow.parquet")
        monkeypatch.setattr(parquet, "GROUP", 2)
        with ParquetFile(tmp_path / "x.parquet") as file:
            for record in [FAILURE] * 3 + [result("a.jpg", [make_person(1, BODY, HEAD, ("peace",))]), result("b.jpg")]:
                file.add(record)
            assert not (tmp_path / "x.parquet").exists()
        table = pq.read_table(tmp_path / "x.parquet")
        assert table.column("path").to_pylist() == ["z.jpg"] * 3 + ["a.jpg", "b.jpg"]
        assert table.column("error").to_pylist() == ["InvalidRequest: not an image"] * 3 + [None] * 2
        assert table.column("persons").to_pylist()[3][0]["pred"] == ["peace"]
        assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]

    def test_a_name_that_is_not_utf8(self, tmp_path):
        pq = pytest.importorskip("pyarrow.parquet")
        with ParquetFile(tmp_path / "x.parquet") as file:
            file.add(result(os.fsdecode(b"\xff.jpg")))
            file.add({**FAILURE, "file": os.fsdecode(b"Zo\xc3\xab.jpg")})
        assert pq.read_table(tmp_path / "x.parquet").column("path").to_pylist() == ["\\xff.jpg", "Zo\xeb.jpg"]

    def test_no_file(self):
        with pytest.raises(InvalidInput, match="/dev/null is a pipe or a device"):
            ParquetFile("/dev/null")

    def test_nothing(self, tmp_path):
        pq = pytest.importorskip("pyarrow.parquet")
        ParquetFile(tmp_path / "x.parquet").close()
        assert pq.read_table(tmp_path / "x.parquet").num_rows == 0


@pytest.mark.parametrize("kind", [JsonFile, JsonLinesFile, CsvFile, ParquetFile])
class TestFiles:
    def test_a_failure_to_write_names_the_file(self, kind, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="Not a directory|File exists") as caught:
            kind(tmp_path / "file" / "x")
        assert caught.value.filename == str(tmp_path / "file" / "x")

    def test_an_interrupted_one_is_whole(self, kind, tmp_path):
        def interrupted():
            with kind(tmp_path / "x") as file:
                file.add(result("a.jpg"))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_device_is_written_to_and_not_replaced():
    with CsvFile("/dev/null") as file:
        file.add(result("a.jpg"))
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("kind", [JsonFile, JsonLinesFile, CsvFile])
def test_a_full_disk_is_named(kind):
    with pytest.raises(OSError, match="No space left on device") as caught, kind("/dev/full") as file:
        file.add(result("a.jpg", [make_person(1, BODY, HEAD, ())] * 50))
    assert caught.value.filename == "/dev/full"
