"""Batch runs, but for Ray: images and their shards, several servers as one, rows."""

import doctest
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cocoer_client.batch import command as batch
from cocoer_client.batch import rows as batch_rows
from cocoer_client.batch import server_pool
from cocoer_client.batch.server_pool import NoServer, ServerPool
from cocoer_client.batch.shards import Output, list_images
from cocoer_client.batch.worker import Recogniser
from cocoer_client.errors import (
    InvalidInput,
    InvalidRequest,
    RequestTimeout,
    ServerBusy,
    ServerError,
    ServerUnavailable,
)
from cocoer_client.optional import needs
from cocoer_client.sources import read_named

PERSON = {
    "id": 1,
    "body_box": [0, 0, 5, 9],
    "head_box": [1, 1, 3, 3],
    **{name: ["peace"] for name in ("pred", "VI", "head", "body", "ctx")},
    "emo_process": ["head-level", "context-level", "body-level"],
    "scores": {name: [0.5, 0.25] for name in ("pred", "VI", "head", "body", "ctx")},
    "losses": {"head": 1.0, "body": 0.5, "context": 0.25},
    "refined": {},
    "coordination": {},
}
MODEL = {"version": "1", "weights": "w", "synthetic": True, "detector": "scrfd", "channel_order": "bgr"}
RESULT = {
    "image": {"width": 6, "height": 10},
    "persons": [PERSON],
    "labels": ["peace", "fear"],
    "model": {**MODEL, "coordination_step": 1.0, "precision": "fp32"},
}


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/c.webp"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "pictures"


def listed(inputs, column):
    images, _ = list_images(inputs, column)
    return images


def names(paths):
    return [path.rpartition("pictures/")[2] for path in paths]


def test_images_of_a_folder(folder):
    assert names(listed([str(folder)], "path")) == ["a.PNG", "b.jpg", "deep/c.webp"]
    assert names(listed([f"{folder}/*.jpg", str(folder)], "path")) == ["b.jpg", "a.PNG", "deep/c.webp"]
    assert all(path.startswith("file://") for path in listed([str(folder)], "path"))


def test_images_of_a_parquet_file(folder, tmp_path):
    pq.write_table(pa.table({"image": ["x/1.jpg", "s3://b/2.jpg"]}), tmp_path / "names.parquet")
    assert listed([str(tmp_path / "names.parquet")], "image") == ["x/1.jpg", "s3://b/2.jpg"]
    with pytest.raises(InvalidInput, match=r"names.parquet has no column 'path' of names; --column says which"):
        listed([str(tmp_path / "names.parquet")], "path")


def test_images_of_a_bucket():
    memory = fsspec.filesystem("memory")
    for name in ("one.jpg", "two.png"):
        memory.pipe_file(f"/bucket-in/{name}", name.encode())
    paths = listed(["memory://bucket-in"], "path")
    assert [read_named(path) for path in paths] == [b"one.jpg", b"two.png"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("nowhere", "nowhere: no such file or folder"),
        ("nowhere/*.jpg", "nothing matches"),
        ("odd://bucket", "odd://bucket: Protocol not known"),
    ],
)
def test_no_images(given, told):
    with pytest.raises(InvalidInput, match=told.replace("*", r"\*")):
        listed([given], "path")


@pytest.mark.parametrize("where", ["{}", "memory://bucket-{}"])
def test_shards_stay_when_images_are_added(tmp_path, where):
    place = where.format(tmp_path.name if "memory" in where else tmp_path / "out")
    output = Output(place)
    paths = [f"{index}.jpg" for index in range(7)]
    first = output.begin(paths, 3, {"min_score": 0.5})
    assert [(shard.number, len(shard.paths)) for shard in first] == [(0, 3), (1, 3), (2, 1)]
    assert Output(place).begin(paths, 3, {"min_score": 0.5}) == first
    more = Output(place).begin(["new.jpg", *paths[::-1]], 2, {"min_score": 0.5})
    assert more[:3] == first
    assert [(shard.number, shard.paths) for shard in more[3:]] == [(3, ("new.jpg",))]
    assert output.done() == set()
    output.write_table(pa.table({"path": ["0.jpg"]}), output.path_of(1))
    assert Output(place).done() == {1}


def test_other_options_need_another_directory(tmp_path):
    Output(str(tmp_path)).begin(["a.jpg"], 3, {"min_score": 0.5})
    with pytest.raises(InvalidInput, match=r"other options \(min_score was 0.5 and is None\); choose another"):
        Output(str(tmp_path)).begin(["a.jpg"], 3, {})


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    output = Output(str(tmp_path))
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        output.write(b"half", output.path_of(0))
    assert not list(tmp_path.rglob("*.part*"))
    assert output.done() == set()


class Fleet:
    """Servers that behave as a test says; ``connect`` makes their clients."""

    def __init__(self, **behaviour):
        self.behaviour, self.asked, self.busy = behaviour, Counter(), Counter()
        self.maximum = Counter()
        self.lock = threading.Lock()

    def connect(self, url, timeout, retries):
        assert retries == 0
        fleet = self

        class Client:
            def infer_raw(self, image, **options):
                with fleet.lock:
                    fleet.asked[url] += 1
                    fleet.busy[url] += 1
                    fleet.maximum[url] = max(fleet.maximum[url], fleet.busy[url])
                try:
                    return fleet.behaviour[url](image, fleet.busy[url])
                finally:
                    with fleet.lock:
                        fleet.busy[url] -= 1

        return Client()


def answering(image, _busy):
    time.sleep(0.002)
    return RESULT


def gone(_image, _busy):
    raise ServerUnavailable("no server at b")


def ask_many(pool, count, threads=16):
    with ThreadPoolExecutor(threads) as workers:
        return list(workers.map(pool.infer_raw, [b"picture"] * count))


def test_load_goes_to_all_servers():
    fleet = Fleet(a=answering, b=answering)
    assert ask_many(ServerPool(["a", "b"], maximum=8, connect=fleet.connect), 200) == [RESULT] * 200
    assert min(fleet.asked.values()) > 50
    assert max(fleet.maximum.values()) <= 8


def test_a_server_gets_what_it_takes(monkeypatch):
    """One that refuses more than 3 at once is asked little more, and everything is answered."""
    monkeypatch.setattr(server_pool, "SETTLE", 0.02)

    def small(image, busy):
        if busy > 3:
            raise ServerBusy("full")
        return answering(image, busy)

    fleet = Fleet(a=small)
    pool = ServerPool(["a"], maximum=16, connect=fleet.connect)
    assert ask_many(pool, 400) == [RESULT] * 400
    assert 0 < pool.statistics.refused < 250  # without finding its limit: thousands
    assert fleet.asked["a"] == 400 + pool.statistics.refused
    assert pool.servers[0].limit < 8


def test_a_lost_server_is_left_alone():
    fleet = Fleet(a=answering, b=gone)
    pool = ServerPool(["a", "b"], maximum=4, connect=fleet.connect)
    assert ask_many(pool, 100) == [RESULT] * 100
    assert fleet.asked["b"] <= 4
    assert pool.statistics.unreachable == fleet.asked["b"]


def test_patience_ends(monkeypatch):
    monkeypatch.setattr(server_pool, "REST", 0.01)
    pool = ServerPool(["b"], maximum=4, patience=0.05, connect=Fleet(b=gone).connect)
    with pytest.raises(NoServer, match=r"no server has answered for 0.05 s; the last said: no server at b"):
        pool.infer_raw(b"picture")


@pytest.mark.parametrize("error", [ServerError("failed"), RequestTimeout("late")])
def test_what_a_server_fails_at_is_tried_elsewhere(error):
    state = iter([error, error])

    def failing(image, busy):
        if told := next(state, None):
            raise told
        return RESULT

    pool = ServerPool(["a"], maximum=2, connect=Fleet(a=failing).connect)
    assert pool.infer_raw(b"picture") == RESULT
    assert pool.statistics.tried_again == 2

    def always(image, busy):
        raise error

    fleet = Fleet(a=always)
    with pytest.raises(type(error)):
        ServerPool(["a"], maximum=2, connect=fleet.connect).infer_raw(b"picture")
    assert fleet.asked["a"] == 3


def test_a_bad_image_is_not_tried_again():
    def refusing(image, busy):
        raise InvalidRequest("IMAGE is empty")

    fleet = Fleet(a=refusing)
    with pytest.raises(InvalidRequest):
        ServerPool(["a"], maximum=2, connect=fleet.connect).infer_raw(b"")
    assert fleet.asked["a"] == 1


def test_columns():
    """Their names, types and order are what users' queries read."""
    labels = ", ".join(f"{name}: list<item: string>" for name in ("pred", "VI", "head", "body", "ctx", "emo_process"))
    scores = ", ".join(f"{name}: list<item: float>" for name in ("pred", "VI", "head", "body", "ctx"))
    person = (
        f"struct<id: int32, body_box: list<item: int32>, head_box: list<item: int32>, {labels}, "
        f"scores: struct<{scores}>, losses: struct<head: float, body: float, context: float>>"
    )
    model = "detector: string, channel_order: string, coordination_step: float, precision: string"
    assert [(field.name, str(field.type)) for field in batch_rows.SCHEMA] == [
        ("path", "string"),
        ("error", "string"),
        ("width", "int32"),
        ("height", "int32"),
        ("persons", f"list<item: {person}>"),
        ("model", f"struct<version: string, weights: string, synthetic: bool, {model}>"),
    ]
    assert doctest.testmod(batch_rows).failed == 0


def test_rows_are_read_back(tmp_path):
    rows = [batch_rows.row_of("a.jpg", RESULT), batch_rows.failed_row("b.jpg", InvalidRequest("IMAGE is empty"))]
    Output(str(tmp_path)).write_table(batch_rows.table_of(rows, RESULT["labels"]), str(tmp_path / "t.parquet"))
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.schema.metadata[b"labels"] == b"peace\nfear"
    good, bad = table.to_pylist()
    assert good["persons"][0]["pred"] == ["peace"]
    assert good["persons"][0]["scores"]["VI"] == [0.5, 0.25]
    assert good["model"]["synthetic"] is True
    assert good["error"] is None
    assert (bad["path"], bad["error"], bad["persons"]) == ("b.jpg", "InvalidRequest: IMAGE is empty", None)


def test_a_worker_does_a_shard(tmp_path, folder):
    """Also that images which can't be read are rows, in the order of the shard."""

    def some(image, busy):
        if image == b"b.jpg":
            raise InvalidRequest("no image")
        return RESULT

    worker = Recogniser(["a"], str(tmp_path / "out"), 4, 10, 10, {"min_score": 0.5})
    worker.pool = ServerPool(["a"], 4, connect=Fleet(a=some).connect)
    paths = [f"file://{folder}/{name}" for name in ("a.PNG", "b.jpg", "gone.jpg", "deep/c.webp")]
    figures = worker({"number": 3, "paths": paths})
    assert {key: figures[key] for key in ("shard", "pictures", "failed", "persons", "refused")} == {
        "shard": 3,
        "pictures": 4,
        "failed": 2,
        "persons": 2,
        "refused": 0,
    }
    rows = pq.read_table(tmp_path / "out" / "shard=00003" / "part.parquet", partitioning=None).to_pylist()
    assert [row["path"] for row in rows] == paths
    assert [row["error"] for row in rows] == [
        None,
        "InvalidRequest: no image",
        "InvalidInput: No such file or directory",
        None,
    ]


def test_messages(capsys):
    told = batch.describe(
        {
            "output": "out",
            "total": 12,
            "done_before": 2,
            "pictures": 10,
            "failed": 1,
            "persons": 4,
            "refused": 3,
            "unreachable": 0,
            "tried_again": 0,
            "seconds": 5.0,
            "pictures_per_second": 2.0,
            "left_out": {"HEIC": 2, "hidden": 1},
        }
    )
    assert "10 images with 4 persons in 5 s (2.0 per second), 1 failed; 2 were done before." in told
    assert "Left out: 2 HEIC (convert them to JPEG), 1 hidden." in told
    assert "Servers were full 3 times" in told
    assert batch.no_server_in(RuntimeError("x\nclient.server_pool.NoServer: nobody is there\n")) == "nobody is there"
    assert batch.no_server_in(RuntimeError("x")) == ""
    with pytest.raises(
        InvalidInput, match=r"cocoer-batch needs nothing_like_it: pip install 'cocoer-client\[batch\]'$"
    ):
        needs("cocoer-batch", "json", "nothing_like_it", extra="batch")
    assert batch.main(["nowhere", "--output", "out"]) == batch.USAGE
    assert "nowhere: no such file or folder" in capsys.readouterr().err
    assert json.dumps(batch.COUNTS)
