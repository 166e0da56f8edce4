"""cocoer-batch's images and results in a bucket, through S3's own interface (moto's server)."""

import json
import os

import pandas as pd
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from cocoer_client.batch import holder
from cocoer_client.batch import lease as leases
from cocoer_client.batch.job import Job, Work
from cocoer_client.batch.lease import Lease
from cocoer_client.batch.paths import list_images
from cocoer_client.batch.shards import Output, ToDo
from cocoer_client.batch.storage import Storage
from cocoer_client.batch.worker import Recogniser
from cocoer_client.errors import InvalidInput, ServerError, SourceUnavailable
from cocoer_client.key import ResultKey
from cocoer_client.results import ModelInfo
from tests.batch_fakes import LABELS, MODEL, RESULT, Fleet


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def storage(endpoint, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    return Storage({"endpoint_url": endpoint})


@pytest.fixture
def fs(storage, request):
    fs = storage.open("s3://")[0]
    fs.mkdir("images")
    fs.mkdir("results")
    for index in range(10):
        fs.pipe_file(f"images/holiday/{index}.jpg", b"%d" % index)
    yield fs
    fs.rm("images", recursive=True)
    fs.rm("results", recursive=True)


JOB = Job(ResultKey.of(MODEL), LABELS, "persons")


def begin(storage, fleet, monkeypatch):
    """What a driver begins with: shards, what is done, and a worker."""
    monkeypatch.setattr("cocoer_client.batch.server_pool.CocoerClient", fleet.connect)
    output = Output("s3://results/one", storage)
    shards = output.begin(list_images(["s3://images"], "path", storage)[0], 4, JOB)
    work = Work(JOB, "s3://results/one", ("a",), ModelInfo.model_validate(MODEL), storage=storage)
    return output, shards, Recogniser(work)


def task(shard):
    return ToDo(shard, shard.paths).task


def test_killed_and_begun_again(storage, fs, monkeypatch):
    """The driver is killed after two shards, one of which has an image left."""
    monkeypatch.setattr("cocoer_client.batch.server.REST", 0.01)

    def failing(image, _):
        if image == b"5":
            raise ServerError("failed")
        return RESULT

    output, shards, worker = begin(storage, Fleet(a=failing), monkeypatch)
    lease = output.lease()
    assert lease._create()  # and never released
    for shard in shards[:2]:
        assert worker(task(shard))["ended"] == ""

    s3fs.S3FileSystem.clear_instance_cache()  # another process's
    fleet = Fleet(a=lambda *_: RESULT)
    output, again, worker = begin(storage, fleet, monkeypatch)
    monkeypatch.setattr(holder, "HELD", {lease.own.token})  # as if it were still at work
    with pytest.raises(InvalidInput, match="at work on results/one: process"), output.lease().held():
        pass
    monkeypatch.setattr(holder, "HELD", set())
    monkeypatch.setattr(leases, "SETTLE", 0.01)
    with output.lease().held():
        assert again == shards
        assert output.files().done == {0}
        assert output.left(1) == {"s3://images/holiday/5.jpg": "ServerError: failed"}
        for shard in again[1:]:
            worker(task(shard))
    assert sorted(fleet.images) == [b"5", b"8", b"9"]
    assert output.files().done == {0, 1, 2}
    assert output.files().left == set()
    options = {"endpoint_url": storage.options["endpoint_url"]}
    frame = pd.read_parquet("s3://results/one", storage_options=options)
    assert list(frame.path) == [f"s3://images/holiday/{index}.jpg" for index in range(10)]
    assert set(frame["p(peace)"]) == {0.75}
    assert not fs.exists("results/one/_cocoer/lock.json")


def test_one_driver_alone_makes_the_lock(storage, fs):
    """S3's conditional write, and not a look before."""
    first, second = (Lease(fs, "results/_cocoer/lock.json", "results") for _ in range(2))
    assert first._create()
    fs.invalidate_cache()
    assert not second._create()
    assert json.loads(fs.cat_file("results/_cocoer/lock.json"))["token"] == first.own.token


def test_what_cant_be_read(storage, fs, endpoint, monkeypatch):
    with pytest.raises(InvalidInput, match="can't be read: "):
        storage.read("s3://images/none.jpg")
    nowhere = Storage({"endpoint_url": "http://127.0.0.1:1", "config_kwargs": {"retries": {"max_attempts": 1}}})
    nowhere.open("s3://images")[0].retries = 1
    with pytest.raises(SourceUnavailable, match="can't be read: "):
        nowhere.read("s3://images/0.jpg")


def test_results_that_cant_be_written(storage, fs, monkeypatch):
    """A worker says so, and the image is not lost."""
    output, shards, worker = begin(storage, Fleet(a=lambda *_: RESULT), monkeypatch)
    fs.rm("results", recursive=True)
    figures = worker(task(shards[0]))
    assert figures["ended"] == "CantWrite"
    assert "results/one/shard=00000/part.parquet can't be written: " in figures["told"]
    fs.mkdir("results")
