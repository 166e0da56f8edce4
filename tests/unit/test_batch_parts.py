"""Batch runs, below the command: images and their shards, what a worker makes of a shard."""

import doctest
import json
import os

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cocoer_client.batch import paths as batch_paths
from cocoer_client.batch import shards
from cocoer_client.batch.job import Job, Work
from cocoer_client.batch.paths import list_images
from cocoer_client.batch.server_pool import ServerPool
from cocoer_client.batch.shards import Output, Shard
from cocoer_client.batch.storage import PLAIN, Storage
from cocoer_client.batch.worker import Recogniser
from cocoer_client.command import Connection
from cocoer_client.connection import TLS
from cocoer_client.errors import InvalidInput, InvalidRequest, ServerError, SourceUnavailable
from cocoer_client.key import ResultKey
from cocoer_client.results import ModelInfo
from tests.batch_fakes import LABELS, MODEL, RESULT, Fleet, of_model


def job_of(layout="images", model=MODEL, **options):
    return Job(ResultKey.of(model, **options), LABELS, layout)


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
    assert [PLAIN.read(path) for path in paths] == [b"one.jpg", b"two.png"]


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
    place = where.format(tmp_path.name if "memory" in where else tmp_path / "out [1]")
    output, job = Output(place), job_of(min_score=0.5)
    paths = [f"{index}.jpg" for index in range(7)]
    first = output.begin(paths, 3, job)
    assert [(shard.number, len(shard.paths)) for shard in first] == [(0, 3), (1, 3), (2, 1)]
    assert Output(place).begin(paths, 3, job) == first
    more = Output(place).begin(["new.jpg", *paths[::-1]], 2, job)
    assert more[:3] == first
    assert [(shard.number, shard.paths) for shard in more[3:]] == [(3, ("new.jpg",))]
    assert output.files().done == set()
    output.finish(1, [{"path": "0.jpg"}], {}, job)
    assert Output(place).files().done == {1}


def test_names_that_are_no_text(tmp_path):
    """A file whose name is not UTF-8 stays what it is."""
    output, job = Output(str(tmp_path)), job_of()
    paths = ["a.jpg", os.fsdecode(b"caf\xe9.jpg")]
    output.begin(paths, 3, job)
    assert output.begin(paths, 3, job) == [Shard(0, tuple(paths))]
    assert doctest.testmod(batch_paths).failed == 0


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (job_of(), "min_score was 0.5 and is the default"),
        (job_of(min_score=0.6), "min_score was 0.5 and is 0.6"),
        (job_of(min_score=0.5, model={**MODEL, "weights": "x"}), "weights was w and is x"),
        (job_of(min_score=0.5, model={**MODEL, "coordination_step": 0.1}), "coordination_step was 1.0 and is 0.1"),
        (job_of("persons", min_score=0.5), "layout was images and is persons"),
    ],
)
def test_another_job_needs_another_directory(tmp_path, other, told):
    Output(str(tmp_path)).begin(["a.jpg"], 3, job_of(min_score=0.5))
    assert Output(str(tmp_path)).begin(["a.jpg"], 3, job_of(min_score=0.5, model={**MODEL, "version": "2"}))
    with pytest.raises(InvalidInput, match=rf"{told}\); choose another directory"):
        Output(str(tmp_path)).begin(["a.jpg"], 3, other)


def test_a_directory_without_a_key(tmp_path):
    (tmp_path / "_cocoer").mkdir()
    (tmp_path / "_cocoer" / "job.json").write_text(json.dumps({"min_score": 0.5}))
    with pytest.raises(InvalidInput, match="earlier cocoer-batch, which did not note the model; choose another direct"):
        Output(str(tmp_path)).begin(["a.jpg"], 3, job_of(min_score=0.5))


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    output = Output(str(tmp_path))
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        output.finish(0, [], {}, job_of())
    assert not list(tmp_path.rglob("*.part*"))
    assert output.files().parts == set()


def worker_of(tmp_path, monkeypatch, fleet, layout="images", **options):
    monkeypatch.setattr("cocoer_client.batch.server_pool.CocoerClient", fleet.connect)
    model = ModelInfo.model_validate(MODEL)
    return Recogniser(Work(job_of(layout), str(tmp_path / "out"), tuple(fleet.behaviour), model, **options))


def task_of(*paths, number=3, to_do=None):
    """A shard, of which all is to do unless it is said."""
    names = {"paths": paths, "to_do": paths if to_do is None else to_do}
    return {"number": number, **{name: [os.fsencode(path) for path in of] for name, of in names.items()}}


def rows_in(tmp_path, number=3):
    return pq.read_table(tmp_path / "out" / f"shard={number:05d}" / "part.parquet", partitioning=None).to_pylist()


def left_in(tmp_path, number=3):
    path = tmp_path / "out" / "_cocoer" / f"left-{number:05d}.json"
    return {entry["path"]: entry["error"] for entry in json.loads(path.read_text())} if path.exists() else {}


@pytest.mark.parametrize("layout", ["images", "persons"])
def test_a_worker_does_a_shard(tmp_path, folder, monkeypatch, layout):
    """Whatever is wrong with one image is its row, in the order of the shard."""

    def some(image, busy):
        if image == b"b.jpg":
            raise InvalidRequest("no image")
        if image == b"memory":
            raise MemoryError
        return {**RESULT, "persons": []} if image == b"nobody" else RESULT

    for name in (b"memory", b"nobody", b"caf\xe9.jpg"):
        (folder / os.fsdecode(name)).write_bytes(name)
    fleet = Fleet(a=some)
    worker = worker_of(tmp_path, monkeypatch, fleet, layout, options={"min_score": 0.5})
    names = ["a.PNG", "b.jpg", "gone.jpg", "deep/c.webp", "memory", "nobody", os.fsdecode(b"caf\xe9.jpg")]
    paths = [f"file://{folder}/{name}" for name in names]
    figures = worker(task_of(*paths, f"odd://{folder}", "nul\0.jpg", str(folder)))
    kept = ("ended", "pictures", "failed", "left", "persons", "refused")
    assert {key: figures[key] for key in kept} == {
        "ended": "",
        "pictures": 10,
        "failed": 6,
        "left": 0,
        "persons": 3,
        "refused": 0,
    }
    rows = rows_in(tmp_path)
    assert [row["path"] for row in rows[:6]] == paths[:6]
    assert rows[6]["path"] == f"file://{folder}/caf\\udce9.jpg"
    errors = [row["error"] for row in rows]
    assert errors[:7] == [
        None,
        "InvalidRequest: no image",
        "InvalidInput: No such file or directory",
        None,
        "MemoryError: no more is known",
        None,
        None,
    ]
    assert "odd" in errors[7]
    assert "embedded null byte" in errors[8]
    assert "Is a directory" in errors[9]
    assert all(options == {"min_score": 0.5} for options in fleet.options)


def test_what_may_pass_is_left_for_later(tmp_path, folder, monkeypatch):
    """The rest of its shard is kept; the next run asks about it alone, and then the shard is done."""
    bad = {"error": ServerError("the server at a failed: CUDA error")}

    def some(image, busy):
        if image == b"b.jpg" and bad:
            raise bad["error"]
        return RESULT

    monkeypatch.setattr("cocoer_client.batch.server.REST", 0.01)
    fleet = Fleet(a=some)
    paths = [f"file://{folder}/{name}" for name in ("a.PNG", "b.jpg", "deep/c.webp")]
    figures = worker_of(tmp_path, monkeypatch, fleet)(task_of(*paths))
    assert (figures["pictures"], figures["left"], figures["failed"], figures["persons"]) == (2, 1, 0, 2)
    assert [row["path"] for row in rows_in(tmp_path)] == [paths[0], paths[2]]
    assert left_in(tmp_path) == {paths[1]: "ServerError: the server at a failed: CUDA error"}
    output = Output(str(tmp_path / "out"))
    assert (output.files().done, output.files().left) == (set(), {3})

    bad.clear()
    fleet.images.clear()
    figures = worker_of(tmp_path, monkeypatch, fleet)(task_of(*paths, to_do=paths[1:2]))
    assert (figures["pictures"], figures["left"]) == (1, 0)
    assert fleet.images == [b"b.jpg"]
    assert [row["path"] for row in rows_in(tmp_path)] == paths
    assert left_in(tmp_path) == {}
    assert output.files().done == {3}


@pytest.mark.parametrize("last", ["the list", "the rows"])
def test_killed_between_two_files(tmp_path, folder, monkeypatch, last):
    """Of the list of what is left, and the rows: nothing is lost, and nothing twice, whichever was written last."""
    failing = [ServerError("failed")]

    def some(image, busy):
        if image == b"b.jpg" and failing:
            raise failing[0]
        return RESULT

    monkeypatch.setattr("cocoer_client.batch.server.REST", 0.01)
    fleet = Fleet(a=some)
    paths = [f"file://{folder}/{name}" for name in ("a.PNG", "b.jpg")]
    output = Output(str(tmp_path / "out"))
    worker_of(tmp_path, monkeypatch, fleet)(task_of(*paths))
    told = output.fs.cat_file(output.left_path_of(3))
    failing.clear()
    if last == "the list":  # before the rows of what was done
        output.fs.rm_file(output.path_of(3))
    else:  # of all, before the list was removed
        worker_of(tmp_path, monkeypatch, fleet)(task_of(*paths))
        output.fs.pipe_file(output.left_path_of(3), told)
    assert output.files().done == set()
    worker_of(tmp_path, monkeypatch, fleet)(task_of(*paths))
    assert [row["path"] for row in rows_in(tmp_path)] == paths
    assert output.files().done == {3}


def test_errors_are_asked_about_again_if_wanted(tmp_path, folder, monkeypatch):
    refusing = [InvalidRequest("HEIC is not allowed")]

    def some(image, busy):
        if image == b"b.jpg" and refusing:
            raise refusing[0]
        return RESULT

    fleet = Fleet(a=some)
    paths = [f"file://{folder}/{name}" for name in ("a.PNG", "b.jpg")]
    task = task_of(*paths)
    worker_of(tmp_path, monkeypatch, fleet)(task)
    output = Output(str(tmp_path / "out"))
    assert (output.done(3, but_failed=False), output.done(3, but_failed=True)) == (set(paths), {paths[0]})
    refusing.clear()
    fleet.images.clear()
    worker_of(tmp_path, monkeypatch, fleet)(task)
    assert fleet.images == []
    assert rows_in(tmp_path)[1]["error"] == "InvalidRequest: HEIC is not allowed"
    task = task_of(*paths, to_do=paths[1:])
    assert worker_of(tmp_path, monkeypatch, fleet, retry_failed=True)(task)["pictures"] == 1
    assert fleet.images == [b"b.jpg"]
    assert [row["error"] for row in rows_in(tmp_path)] == [None, None]
    assert rows_in(tmp_path)[0]["persons"] == rows_in(tmp_path)[1]["persons"]


@pytest.mark.parametrize("layout", ["images", "persons"])
def test_a_worker_dies_after_the_rows_and_before_the_figures(tmp_path, folder, monkeypatch, layout):
    """Its shard comes again: nothing is asked twice, and the run counts what it has done."""

    def some(image, busy):
        if image == b"b.jpg":
            raise InvalidRequest("no image")
        return RESULT

    fleet = Fleet(a=some)
    task = task_of(*(f"file://{folder}/{name}" for name in ("a.PNG", "b.jpg", "deep/c.webp")))
    first = worker_of(tmp_path, monkeypatch, fleet, layout)(task)
    fleet.images.clear()
    assert worker_of(tmp_path, monkeypatch, fleet, layout)(task) == first
    assert (first["pictures"], first["failed"], first["persons"]) == (3, 1, 2)
    assert fleet.images == []


def test_nothing_of_another_model_is_written(tmp_path, folder, monkeypatch):
    fleet = Fleet(a=lambda image, _: of_model(weights="x") if image == b"b.jpg" else RESULT)
    worker = worker_of(tmp_path, monkeypatch, fleet)
    figures = worker(task_of(f"file://{folder}/a.PNG", f"file://{folder}/b.jpg"))
    assert figures["ended"] == "ModelChanged"
    assert figures["told"] == "a: the server's model has changed: weights was w and is x"
    assert not (tmp_path / "out").exists()


def test_a_full_disk(tmp_path, folder, monkeypatch):
    def full(fs, path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "write", full)
    figures = worker_of(tmp_path, monkeypatch, Fleet(a=lambda *_: RESULT))(task_of(f"file://{folder}/a.PNG"))
    assert figures["ended"] == "CantWrite"
    assert "shard=00003/part.parquet can't be written: [Errno 28] No space left on device" in figures["told"]


class FlakyBucket(MemoryFileSystem):
    """Fails at what says so."""

    protocol = "flaky"

    def cat_file(self, path, start=None, end=None, **kwargs):
        if "denied" in path:
            raise PermissionError("the credentials have expired")
        if "slow" in path:
            raise OSError(5, "SlowDown: reduce your request rate")
        raise FileNotFoundError(path)


def test_a_bucket_that_fails_is_not_the_image(monkeypatch):
    """What it holds is left for later; what it does not hold is written down."""
    fsspec.register_implementation("flaky", FlakyBucket, clobber=True)
    for name in ("denied", "slow"):
        with pytest.raises(SourceUnavailable):
            PLAIN.read(f"flaky://bucket/{name}.jpg")
    with pytest.raises(InvalidInput):
        PLAIN.read("flaky://bucket/none.jpg")


def test_options_of_storage_are_a_buckets(tmp_path):
    fsspec.register_implementation("flaky", FlakyBucket, clobber=True)
    storage = Storage({"endpoint_url": "http://minio:9000"})
    assert storage.open("flaky://bucket/a.jpg")[0].storage_options == {"endpoint_url": "http://minio:9000"}
    assert storage.open(str(tmp_path))[0].storage_options == {}
    assert storage.open(f"file://{tmp_path}")[0].storage_options == {}


def test_secrets_are_in_no_text_of_a_job(tmp_path):
    """Ray writes arguments into its logs as they show themselves."""
    connection = Connection(9, TLS(tmp_path / "ca.pem"), {"authorization": "Bearer s3cret"})
    work = Work(
        job_of(),
        str(tmp_path),
        ("a:1",),
        ModelInfo.model_validate(MODEL),
        connection=connection,
        storage=Storage({"secret": "s3cret"}),
    )
    assert "s3cret" not in f"{work} {work!r} {connection}"
    Output(str(tmp_path)).begin(["a.jpg"], 1, work.job)
    assert all(b"s3cret" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    pool = ServerPool(work.urls, 1, connection, connect=lambda url, **given: given)
    assert pool.servers[0].client == {
        "timeout": 9,
        "tls": TLS(tmp_path / "ca.pem"),
        "headers": {"authorization": "Bearer s3cret"},
        "retries": 0,
    }
