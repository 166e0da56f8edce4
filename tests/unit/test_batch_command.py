"""cocoer-batch from end to end but for Ray and servers: what it asks first, what it leaves, what it says."""

import dataclasses
import json

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cocoer_client.batch import agreement, ray_data, server, server_pool
from cocoer_client.batch import command as batch
from cocoer_client.batch.arguments import parse_args
from cocoer_client.batch.shards import Output
from cocoer_client.batch.statistics import Statistics
from cocoer_client.batch.worker import Recogniser
from cocoer_client.errors import InvalidInput, InvalidRequest, ServerError, ServerUnavailable
from cocoer_client.inputs import NOTHING
from cocoer_client.optional import needs
from tests.batch_fakes import RESULT, Fleet, of_model


class WithoutRay:
    """In its place."""

    def shutdown(self):
        pass


def one_after_the_other(ray, shards, work, workers, cpus_per_worker):
    """As ``run_shards``."""
    recogniser = Recogniser(dataclasses.replace(work, concurrency=1))
    for to_do in shards:
        yield recogniser(to_do.task)


@pytest.fixture
def start(tmp_path, monkeypatch, capsys):
    """Run the command on ten images, with a fleet; its exit status, statistics, and what it told."""
    monkeypatch.setattr(ray_data, "start_ray", lambda args: WithoutRay())
    monkeypatch.setattr(ray_data, "run_shards", one_after_the_other)
    monkeypatch.setattr(agreement, "PAUSE", 0.01)
    monkeypatch.setattr(server, "REST", 0.01)
    monkeypatch.setattr(server, "MAX_REST", 0.01)
    (tmp_path / "in").mkdir()
    for index in range(10):
        (tmp_path / "in" / f"{index}.jpg").write_bytes(b"%d" % index)

    def run(fleet, *options, output=None, also=()):
        for module in (agreement, server_pool):
            monkeypatch.setattr(module, "CocoerClient", fleet.connect)
        given = [
            str(tmp_path / "in"),
            *map(str, also),
            "--output",
            output or str(tmp_path / "out"),
            "--url",
            ",".join(fleet.behaviour),
        ]
        status = batch.main([*given, "--shard-size", "4", "--json", *options])
        told = capsys.readouterr()
        return status, json.loads(told.out or "null"), told.err

    return run


def images_of(fleet):
    return sorted(image for image in fleet.images if image != NOTHING)


def rows_of(tmp_path):
    return pd.read_parquet(tmp_path / "out")


def test_all_is_done_once(start, tmp_path):
    fleet = Fleet(a=lambda *_: RESULT)
    status, told, _ = start(fleet, "--min-score", "0.4")
    assert status == 0
    assert (told["total"], told["pictures"], told["left"], told["why_left"]) == (10, 10, 0, {})
    assert all(options == {"min_score": 0.4} for options in fleet.options)
    job = json.loads((tmp_path / "out" / "_cocoer" / "job.json").read_text())
    assert (job["key"]["weights"], job["key"]["min_score"]) == ("w", 0.4)
    again = Fleet(a=lambda *_: RESULT)
    status, told, _ = start(again, "--min-score", "0.4")
    assert (status, told["done_before"], told["pictures"], images_of(again)) == (0, 10, 0, [])
    assert not (tmp_path / "out" / "_cocoer" / "lock.json").exists()


def test_options_are_checked_before_the_first_image(start, tmp_path):
    """A threshold of 7 read all images, and made as many rows of errors."""

    def refusing(*_):
        raise InvalidRequest("min_score must be from 0 to 1, got 7.0")

    fleet = Fleet(a=refusing)
    status, _, told = start(fleet, "--min-score", "7")
    assert (status, told) == (2, "error: a refuses the options: min_score must be from 0 to 1, got 7.0\n")
    assert fleet.images == [NOTHING]
    assert not (tmp_path / "out" / "_cocoer" / "job.json").exists()


def test_servers_of_different_models(start, tmp_path):
    fleet = Fleet(a=lambda *_: RESULT, b=lambda *_: RESULT, c=lambda *_: of_model(weights="x", precision="fp16"))
    status, _, told = start(fleet)
    assert status == 2
    assert "error: a and c have different models: precision was fp32 and is fp16, weights was w and is x." in told
    assert images_of(fleet) == []


def test_another_model_needs_another_directory(start, tmp_path):
    """The newcomer's path: random weights first, then the official ones. Results of both were in one data set."""
    start(Fleet(a=lambda *_: RESULT))
    fleet = Fleet(a=lambda *_: of_model(weights="official"))
    status, _, told = start(fleet)
    assert status == 2
    assert "(weights was w and is official); choose another directory" in told
    assert images_of(fleet) == []


def test_a_model_that_changes_midway(start, tmp_path):
    """Nothing of it is kept; with the one of before, the same command goes on."""
    changing = Fleet(a=lambda image, _: of_model(weights="x") if image >= b"5" and image != NOTHING else RESULT)
    status, _, told = start(changing)
    assert status == 4
    assert told.startswith("error: a: the server's model has changed: weights was w and is x. Nothing of it was kept.")
    assert list(rows_of(tmp_path).path.str[-5:]) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    status, told, _ = start(Fleet(a=lambda *_: RESULT))
    assert (status, told["done_before"], told["pictures"]) == (0, 4, 6)
    rows = rows_of(tmp_path)
    assert len(rows) == rows.path.nunique() == 10
    assert {model["weights"] for model in rows.model} == {"w"}


def test_what_is_left_is_told_and_asked_again(start, tmp_path):
    """Of failures that may pass, none was ever tried again: each was a row, and its shard was done."""

    def failing(image, _):
        if image in (b"3", b"7"):
            raise ServerError("the server at a failed: CUDA error")
        return RESULT

    status, told, _ = start(Fleet(a=failing))
    assert status == 1
    assert (told["pictures"], told["failed"], told["left"]) == (8, 0, 2)
    assert told["why_left"] == {"ServerError: the server at a failed: CUDA error": 2}
    assert len(rows_of(tmp_path)) == 8
    fleet = Fleet(a=lambda *_: RESULT)
    status, told, _ = start(fleet)
    assert (status, told["done_before"], told["pictures"], told["left"]) == (0, 8, 2, 0)
    assert images_of(fleet) == [b"3", b"7"]
    assert rows_of(tmp_path).path.nunique() == len(rows_of(tmp_path)) == 10


def test_retry_failed(start, tmp_path):
    def refusing(image, _):
        if image in (b"3", b"7"):
            raise InvalidRequest("HEIC is not allowed")
        return RESULT

    status, told, _ = start(Fleet(a=refusing))
    assert (status, told["failed"], told["left"]) == (1, 2, 0)
    assert start(Fleet(a=lambda *_: RESULT))[1]["pictures"] == 0
    fleet = Fleet(a=lambda *_: RESULT)
    status, told, _ = start(fleet, "--retry-failed")
    assert (status, told["done_before"], told["pictures"], told["failed"]) == (0, 8, 2, 0)
    assert images_of(fleet) == [b"3", b"7"]
    assert rows_of(tmp_path).error.isna().all()


def test_a_server_that_is_away(start, tmp_path):
    def gone(*_):
        raise ServerUnavailable("no server at b")

    status, told, err = start(Fleet(b=gone, a=lambda *_: RESULT))
    assert (status, told["pictures"]) == (0, 10)
    assert err == "b does not answer, and is asked again later: no server at b\n"
    status, _, err = start(Fleet(b=gone), "--patience", "0.1")
    assert status == 3
    assert err.splitlines() == [
        "waiting for a server, 0.1 s at most: no server at b",
        "error: no server has answered for 0.1 s; the last said: no server at b. The same command goes on from here",
    ]


def test_servers_that_fail_from_the_beginning(start):
    """One of two does not matter; all of them, or a missing key, is told at once."""

    def failing(*_):
        raise ServerError("the server at b refuses this call without its key")

    assert start(Fleet(a=lambda *_: RESULT, b=failing))[0] == 0
    status, _, err = start(Fleet(b=failing))
    assert status == 3
    assert err == "error: the server at b refuses this call without its key. The same command goes on from here\n"


def test_a_server_that_comes(start):
    answers = [ServerUnavailable("no server at a"), ServerUnavailable("no server at a")]

    def coming(*_):
        if answers:
            raise answers.pop()
        return RESULT

    status, told, _ = start(Fleet(a=coming))
    assert (status, told["pictures"]) == (0, 10)


def test_a_second_driver(start, tmp_path):
    with Output(str(tmp_path / "out")).lease().held():
        fleet = Fleet(a=lambda *_: RESULT)
        status, _, told = start(fleet)
    assert status == 2
    assert "error: another cocoer-batch is at work on" in told
    assert fleet.images == []


def test_persons_in_rows(start, tmp_path):
    status, told, _ = start(Fleet(a=lambda *_: RESULT), "--layout", "persons")
    assert (status, told["persons"]) == (0, 10)
    frame = rows_of(tmp_path)
    assert set(frame["p(peace)"]) == {0.75}
    assert start(Fleet(a=lambda *_: RESULT))[2].endswith(
        "(layout was persons and is images); choose another directory\n"
    )


def test_what_is_left_out_is_told(start, tmp_path):
    """And that a row of a table has no name, which ended a job at the same row each time."""
    (tmp_path / "in" / "a.heic").write_bytes(b"x")
    names = tmp_path / "names.parquet"
    pq.write_table(pa.table({"path": [f"file://{tmp_path}/in/1.jpg", None, f"file://{tmp_path}/in/none.jpg"]}), names)
    status, told, err = start(Fleet(a=lambda *_: RESULT), also=[names])
    assert (status, told["pictures"], told["failed"], told["left_out"]) == (1, 11, 1, {"HEIC": 1})
    assert told["problems"][0] in err
    assert "1 of 3 rows has no name in column 'path' (row 1, counted from 0)" in err


def test_any_reader_finds_results_alone(start, tmp_path):
    """Some read all Parquet files below a directory, whatever it is called."""
    start(Fleet(a=lambda *_: RESULT))
    found = fsspec.filesystem("file").glob(f"{tmp_path}/out/**/*.parquet")
    assert len(found) == 3
    assert all("_cocoer" not in path for path in found)


def test_a_directory_that_cant_be_written(start, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, told = start(Fleet(a=lambda *_: RESULT), output=str(tmp_path / "file" / "out"))
    assert status == 1
    assert told.startswith("error: ")
    assert "Not a directory" in told


def test_messages(capsys):
    statistics = Statistics("out", 12, 2, pictures=9, failed=1, persons=4, refused=3)
    told = statistics.describe()
    assert "9 images with 4 persons in 0 s" in told
    assert "1 failed; 2 were done before.\nResults of all 12: out\nColumn error says why" in told
    assert "Servers were full 3 times" in told
    statistics.remains({"a.jpg": "RequestTimeout: late"})
    told = statistics.describe()
    assert "Results of 11 of 12: out" in told
    assert (
        "1 are left, which servers have failed at; the same command asks again:\n  1 times: RequestTimeout: late"
        in told
    )
    assert "All of them: out/_cocoer/left-*.json" in told
    with pytest.raises(
        InvalidInput, match=r"cocoer-batch needs nothing_like_it: pip install 'cocoer-client\[batch\]'$"
    ):
        needs("cocoer-batch", "json", "nothing_like_it", extra="batch")
    assert batch.main(["nowhere", "--output", "out"]) == 2
    assert "nowhere: no such file or folder" in capsys.readouterr().err


def test_arguments():
    args = parse_args(["in", "--output", "out", "--url", "a:1, b:2,a:1", "--storage-option", "anon=true"])
    assert args.url == ("a:1", "b:2")
    options = ["key=007", 'client_kwargs={"region_name": "eu"}', "endpoint_url=http://minio:9000/?a=b"]
    args = parse_args(["in", "--output", "out", *(f"--storage-option={option}" for option in options)])
    assert dict(args.storage_option) == {
        "key": "007",
        "client_kwargs": {"region_name": "eu"},
        "endpoint_url": "http://minio:9000/?a=b",
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--workers", "0"], "must be 1 or more"),
        (["--patience", "0"], "must be more than 0 seconds"),
        (["--retries", "-1"], "must be 0 or more"),
        (["--url", ","], "must be HOST:PORT"),
        (["--header", "Bearer s3cret"], "must be NAME:VALUE"),
        (["--storage-option", "secret"], "must be NAME=VALUE"),
        (["--storage-option", "client_kwargs={s3cret"], "client_kwargs: what is in braces must be JSON"),
        (["--tls-key", "x"], "go together"),
        (["--layout", "boxes"], "invalid choice"),
    ],
)
def test_what_makes_no_sense(given, told, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_args(["in", "--output", "out", *given])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert "s3cret" not in error
