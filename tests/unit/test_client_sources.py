"""What users name, as both commands look for it: folders, globs, links, pipes, tables, buckets, the web."""

import contextlib
import doctest
import functools
import http.server
import importlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cocoer_client import optional
from cocoer_client.batch.paths import list_images
from cocoer_client.errors import InvalidInput, SourceUnavailable, may_pass
from cocoer_client.ordered import in_order
from cocoer_client.sources import Source, find, read_named, web
from cocoer_client.sources.reading import read

MODULES = ("buckets", "find", "formats", "found", "globs", "reading", "source", "web")


@pytest.mark.parametrize("module", [*(f"sources.{name}" for name in MODULES), "terminal", "files"])
def test_examples(module):
    tried = doctest.testmod(importlib.import_module(f"cocoer_client.{module}"))
    assert tried.failed == 0
    assert tried.attempted > 0 or module == "sources.find"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(os.fsencode(name))


def names_of(found):
    return [source.name for source in found.sources]


def by_infer(*inputs, **options):
    """Names, as cocoer-infer finds them; nothing is wrong."""
    found = find(inputs, output_dir="outputs", **options)
    assert found.problems == []
    return names_of(found)


def by_batch(*inputs):
    """The same for cocoer-batch, whose names don't depend on the current folder."""
    images, found = list_images(inputs, "path")
    assert found.problems == []
    return [os.path.relpath(name.removeprefix("file://")) for name in images]


@pytest.mark.parametrize("look", [by_infer, by_batch])
class TestBoth:
    """The two commands find the same."""

    def test_a_folder_with_brackets_is_no_glob(self, look, here):
        make("pics [2020]/a.jpg", "pics 2/b.jpg")
        assert look("pics [2020]") == ["pics [2020]/a.jpg"]
        assert look("pics [2020]/a.jpg") == ["pics [2020]/a.jpg"]
        assert look("pics [2]") == ["pics 2/b.jpg"]

    @pytest.mark.parametrize("pattern", ["g/**", "g/**/*", "g/*", "**/*.jpg", "g*", "./g/**/*.jpg", "{}/g/**"])
    def test_a_glob_finds_each_image_once(self, look, pattern, here):
        """Also that folders which match are searched, as ls has it; and nothing but images is found."""
        make("g/a.jpg", "g/notes.txt", "g/deep/b.jpg", "g/deep/er/c.jpg", "g/.hidden/d.jpg", "g/.e.jpg")
        found = look(pattern.format(here))
        assert sorted(os.path.relpath(name) for name in found) == ["g/a.jpg", "g/deep/b.jpg", "g/deep/er/c.jpg"]

    def test_a_folder_named_like_an_image(self, look, here):
        make("g/a.jpg", "g/full.jpg/b.jpg")
        Path("g/empty.jpg").mkdir()
        assert sorted(look("g/*.jpg")) == ["g/a.jpg", "g/full.jpg/b.jpg"]
        assert look("g") == ["g/a.jpg", "g/full.jpg/b.jpg"]

    def test_the_same_by_other_names(self, look, here):
        make("g/a.jpg", "g/b.jpg")
        assert look("g/b.jpg", "./g", f"{here}/g/a.jpg", "g/../g/*.jpg", f"file://{here}/g/b.jpg") in (
            ["g/b.jpg", "./g/a.jpg"],
            ["g/b.jpg", "g/a.jpg"],
        )

    def test_links(self, look, here, tmp_path_factory):
        """Each real folder once, by its own name if it has one here; loops end; nothing above is searched."""
        make("top/g/a.jpg", "top/g/z/b.jpg", "top/other/no.jpg")
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        (elsewhere / "c.jpg").write_bytes(b"c")
        for link, target in (("again", "z"), ("loop", "."), ("up", ".."), ("out", elsewhere), ("z/back", "..")):
            Path("top/g", link).symlink_to(target)
        Path("top/g/also.jpg").symlink_to("a.jpg")
        for given in ("top/g", "top/g/**"):
            assert look(given) == ["top/g/a.jpg", "top/g/also.jpg", "top/g/z/b.jpg", "top/g/out/c.jpg"]
        Path("link").symlink_to("top/g/z")
        assert look("link") == ["link/b.jpg"]

    def test_many_links_to_one_another(self, look, here):
        """Two links in a folder to itself: followed blindly, 2 to the power of 40 paths."""
        make("g/a.jpg")
        for link in "xy":
            Path("g", link).symlink_to(".")
        assert look("g/**/*.jpg") == ["g/a.jpg"]

    def test_pipes_in_folders(self, look, here):
        make("g/a.jpg")
        os.mkfifo("g/b.jpg")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("g/c.jpg")
            assert look("g") == ["g/a.jpg"]

    def test_names_that_are_not_utf8(self, look, here):
        odd = os.fsdecode(b"g/\xff b.jpg")
        make("g/a.jpg", odd)
        assert look("g")[0] == "g/a.jpg"
        _, found = list_images(["g"], "path")
        assert names_of(found) == ["g/a.jpg", odd]
        assert [read_named(source.url) for source in found.sources] == [b"g/a.jpg", b"g/\xff b.jpg"]
        assert all(source.url.encode() for source in found.sources)  # a Parquet column of text takes it


def test_what_is_left_out_is_counted(here):
    make(
        *("g/a.jpg", "g/1.HEIC", "g/2.heif", "g/3.tif", "g/4.gif", "g/5.CR2", "g/notes.txt"),
        *("g/.c.jpg", "g/.DS_Store", "g/.git/x.png", "g/film.mp4", "outputs/a.png"),
    )
    os.mkfifo("g/p.jpg")
    found = find(["g", "*/*.png"], output_dir="outputs")
    assert names_of(found) == ["g/a.jpg", "g/film.mp4"]
    assert found.left_out.line() == (
        "left out: 2 HEIC, 1 TIFF, 1 GIF, 1 RAW (convert them to JPEG), 2 hidden, 1 other file, 1 pipe or device, "
        "1 result of an earlier run"
    )
    assert found.unusable == found.problems == ["*/*.png: no images among what matches (.jpg, .jpeg, .jpe, .jfif, "
                                                ".png, .webp, .bmp)"]  # fmt: skip
    _, found = list_images(["g"], "path")
    assert "1 video (cocoer-infer reads them, from files)" in found.left_out.line()


def test_what_is_named_is_taken(here):
    """By its name or by a glob that says it: some servers read HEIC."""
    make("a.heic", "b.txt", "c.heic", ".d.jpg")
    assert by_infer("a.heic", "b.txt", ".d.jpg") == ["a.heic", "b.txt", ".d.jpg"]
    assert by_infer("*.heic") == ["a.heic", "c.heic"]
    assert by_infer(".d*") == [".d.jpg"]


def test_an_unreadable_folder_is_told(here, monkeypatch):
    """Whoever runs the tests may be allowed to read everything; so it is the system's call that refuses."""
    make("g/a.jpg", "g/private/b.jpg", "closed/c.jpg")
    scandir = os.scandir

    def refusing(path):
        if os.path.basename(path) in ("private", "closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = find(["g", "closed"])
    assert names_of(found) == ["g/a.jpg"]
    assert found.problems == [
        "g/private: Permission denied; nothing in this folder is read",
        "closed: Permission denied; nothing in this folder is read",
    ]
    assert found.unusable == found.problems[1:]
    assert names_of(find(["g/**"])) == ["g/a.jpg"]
    with pytest.raises(InvalidInput, match="closed: Permission denied"):
        list_images(["closed"], "path")


def test_a_link_to_itself(here):
    """Is an image that can't be read, as is a link to nothing; the run goes on."""
    make("g/a.jpg")
    Path("g/b.jpg").symlink_to("b.jpg")
    Path("g/c.jpg").symlink_to("gone.jpg")
    for found in (find(["g"]), find(["g/*"]), find(["g/a.jpg", "g/b.jpg", "g/c.jpg"])):
        assert names_of(found) == ["g/a.jpg", "g/b.jpg", "g/c.jpg"]
        assert [source.fingerprint() is None for source in found.sources] == [False, True, True]
        for source, told in zip(found.sources[1:], ("Too many levels of symbolic links", "No such file or directory")):
            with pytest.raises(InvalidInput, match=told):
                source.read(1)


@pytest.mark.parametrize("given", ["outputs", "./outputs", "{}/outputs", "g/../outputs", "link", "g/within"])
def test_results_are_no_inputs(given, here):
    """However the output directory is called, and wherever it is met."""
    make("g/a.jpg", "outputs/r.png", "outputs/deep/r.png", "g/within/r.png")
    Path("link").symlink_to("outputs")
    Path("g/linked").symlink_to("../outputs")
    output_dir = given.format(here)
    expected = {"g/a.jpg"} if given != "g/within" else {"g/a.jpg", "outputs/r.png", "outputs/deep/r.png"}
    others = set() if given == "g/within" else {"g/within/r.png"}
    for inputs in (["."], ["**/*.jpg", "**/*.png"], ["*"], [str(here)]):
        found = names_of(find(inputs, output_dir=output_dir))
        assert {os.path.relpath(os.path.realpath(name), here) for name in found} == expected | others
    assert len(find(["outputs/*.png"], output_dir="outputs").sources) == 1  # said so


def test_only_what_exists(here):
    assert by_infer("absent.jpg") == ["absent.jpg"]  # reading it tells
    with pytest.raises(InvalidInput, match=r"absent.jpg: no such file or folder"):
        list_images(["absent.jpg"], "path")


@pytest.mark.parametrize("given", ["-", "camera:0", "film.mp4", "rtsp://camera/1", "https://h/film.mp4"])
def test_batch_reads_images(given, here):
    make("film.mp4")
    with pytest.raises(InvalidInput, match=r"read by cocoer-infer$"):
        list_images([given], "path")


@pytest.mark.parametrize(
    ("url", "kind", "target"),
    [
        ("rtsp://user@camera:554/live/1", "stream", "1"),
        ("udp://0.0.0.0:5000", "stream", "0.0.0.0"),
        ("https://h/x/film.mp4?token=1", "stream", "film"),
        ("http://h/live.m3u8", "stream", "live"),
        ("http://h/x/a.jpg", "url", "a"),
    ],
)
def test_streams_and_urls(url, kind, target):
    (told,) = find([url]).problems
    assert told == f"{url}: pass --allow-url to have URLs fetched"
    (source,) = find([url], allow_url=True).sources
    assert (source.name, source.kind, source.target) == (url, kind, target)
    assert source.is_video == (kind == "stream")


class TestTables:
    def write(self, name, values, column="path"):
        pq.write_table(pa.table({"n": list(range(len(values))), column: values}), name)

    def test_rows_without_a_name_cost_themselves(self, here):
        self.write("t.parquet", ["x/1.jpg", None, "s3://b/2.jpg", "", "../3.png"])
        found = find(["t.parquet"], output_dir="outputs")
        assert [(source.name, source.kind, source.target) for source in found.sources] == [
            ("x/1.jpg", "file", "x/1"),
            ("s3://b/2.jpg", "bucket", "b/2"),
            ("../3.png", "file", "3"),
        ]
        assert found.problems == ["t.parquet: 2 of 5 rows have no name in column 'path' (rows 1, 3, counted from 0)"]
        images, found = list_images(["t.parquet"], "path")
        assert images == ["x/1.jpg", "s3://b/2.jpg", "../3.png"]
        assert len(found.problems) == 1
        assert found.unusable == []

    def test_a_column_of_numbers(self, here):
        self.write("t.parquet", [7, 8])
        (told,) = find(["t.parquet"]).problems
        assert told == "t.parquet: 2 of 2 rows have no name in column 'path' (rows 0, 1, counted from 0)"

    def test_names_of_all_kinds(self, here):
        make("a b.jpg")
        names = [
            f"file://{here}/a b.jpg",
            f"file://localhost{here}/a%20b.jpg",
            "http://h/1.jpg",
            "rtsp://h/1",
            "film.mp4",
            "nul\0.jpg",
        ]
        self.write("t.parquet", names, "image")
        found = find(["t.parquet"], column="image")
        assert [source.kind for source in found.sources] == ["file", "video", "file"]  # one file by two names
        assert found.sources[0].read(1) == b"a b.jpg"
        assert found.problems == ["t.parquet: 2 of its names are URLs; pass --allow-url to have URLs fetched"]
        with pytest.raises(InvalidInput, match="no name of a file: embedded null byte"):
            found.sources[-1].read(1)
        kinds = [source.kind for source in find(["t.parquet"], column="image", allow_url=True).sources]
        assert kinds == ["file", "url", "stream", "video", "file"]

    def test_folders_and_globs_of_tables(self, here):
        Path("set.parquet").mkdir()
        self.write("set.parquet/1.parquet", ["a.jpg"])
        self.write("set.parquet/2.parquet", ["b.jpg"])
        for given in ("set.parquet", "set.parquet/*.parquet"):
            assert names_of(find([given])) == ["a.jpg", "b.jpg"]

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b"no table", r"^t.parquet: can't be read: "),
            (None, r"^t.parquet: can't be read: no such file"),
            (["a.jpg"], r"^t.parquet has no column 'path' of names; --column says which \(it has n, other\)"),
        ],
    )
    def test_what_is_no_table(self, content, told, here):
        if isinstance(content, bytes):
            Path("t.parquet").write_bytes(content)
        elif content:
            self.write("t.parquet", content, "other")
        with pytest.raises(InvalidInput, match=told):
            list_images(["t.parquet"], "path")

    def test_in_a_bucket(self, here):
        self.write("t.parquet", ["memory://tables/1.jpg"])
        memory = fsspec.filesystem("memory")
        memory.pipe({"/tables/t.parquet": Path("t.parquet").read_bytes(), "/tables/1.jpg": b"one"})
        (source,) = find(["memory://tables/t.parquet"]).sources
        assert source.read(1) == b"one"


class TestBuckets:
    @pytest.fixture
    def bucket(self, request):
        memory = fsspec.filesystem("memory")
        root = f"/{request.node.name.partition('[')[0]}"
        for name in ("a.jpg", "deep/b.PNG", "deep [1]/c.jpg", "x.heic", "notes.txt", ".h/d.jpg", "film.mp4"):
            memory.pipe_file(f"{root}/{name}", name.encode())
        return f"memory://{root}"

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("", ["a.jpg", "deep [1]/c.jpg", "deep/b.PNG"]),
            ("/", ["a.jpg", "deep [1]/c.jpg", "deep/b.PNG"]),
            ("/deep [1]", ["deep [1]/c.jpg"]),
            ("/*", ["a.jpg", "deep/b.PNG", "deep [1]/c.jpg"]),
            ("/**/*.jpg", ["a.jpg", "deep [1]/c.jpg"]),
            ("/x.heic", ["x.heic"]),
        ],
    )
    def test_what_is_found(self, given, expected, bucket):
        found = find([bucket + given])
        assert [name.removeprefix(f"{bucket}/") for name in names_of(found)] == expected
        assert [source.read(1).decode() for source in found.sources] == expected

    def test_what_is_left_out(self, bucket):
        assert find([bucket]).left_out.counts == {"HEIC": 1, "other files": 1, "hidden": 1, "videos": 1}

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ("memory://nowhere-at-all", "memory://nowhere-at-all: no such file or folder"),
            ("odd://bucket", "odd://bucket: Protocol not known"),
        ],
    )
    def test_what_is_not_there(self, given, told):
        (problem,) = find([given]).unusable
        assert problem.startswith(told)

    def test_without_its_package(self, monkeypatch):
        monkeypatch.setattr(optional, "find_spec", lambda name: None)
        (told,) = find(["s3://b/x"]).problems
        assert told == "s3:// needs fsspec: pip install 'cocoer-client[buckets]'"
        (told,) = find(["t.parquet"]).problems
        assert told == "t.parquet needs pyarrow: pip install 'cocoer-client[tables]'"

    def test_what_may_pass(self, bucket, monkeypatch):
        """A bucket out of reach says nothing about its images."""
        (source,) = find([f"{bucket}/a.jpg"]).sources
        memory = fsspec.filesystem("memory")
        for error, passing in (
            (ConnectionError("reset"), True),
            (PermissionError("expired"), True),
            (FileNotFoundError("a"), False),
        ):
            monkeypatch.setattr(type(memory), "cat_file", lambda *_, error=error: (_ for _ in ()).throw(error))
            with pytest.raises((InvalidInput, SourceUnavailable), match="can't be read: ") as raised:
                source.read(1)
            assert may_pass(raised.value) == passing


class TestPipes:
    def test_a_named_pipe(self, here):
        """Read until its end, however often its writer rests."""
        os.mkfifo("p")
        code = (
            "import time\nwith open('p', 'wb') as file:\n"
            "  for part in (b'x' * 200000, b'y'):\n    file.write(part), file.flush(), time.sleep(0.4)"
        )
        with subprocess.Popen([sys.executable, "-c", code]):
            assert read("file", "p", 1) == b"x" * 200000 + b"y"

    @pytest.mark.parametrize("content", [b"", b"image"])
    def test_a_pipe_of_the_shells(self, content):
        """<(...), whose writer is gone before it is opened."""
        reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)
        try:
            assert read("file", f"/dev/fd/{reading}", 1) == content
        finally:
            os.close(reading)

    def test_nobody_waits_for_a_pipe_that_nobody_writes(self, here):
        """Where a run ends early, so does reading."""
        make("a.jpg")
        os.mkfifo("p")
        outcomes: Any = in_order(lambda name: read("file", name, 1), ["a.jpg", "p"], workers=2)
        assert next(outcomes) == b"a.jpg"
        outcomes.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("cocoer_")]

    def test_devices(self):
        with pytest.raises(InvalidInput, match="a device, and no file"):
            read("file", "/dev/zero", 1)


@contextlib.contextmanager
def website(answer):
    """``answer(handler)`` to every GET."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as site:
        threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()


def answering(handler, status=200, length=None, body=b"image", pause=0.0):
    handler.send_response(status)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    with contextlib.suppress(OSError):  # the client has had enough
        for byte in body if pause else ():
            handler.wfile.write(bytes([byte]))
            time.sleep(pause)
        if not pause:
            handler.wfile.write(body)


@pytest.mark.parametrize(
    ("options", "told", "passing"),
    [
        ({"status": 404}, "download failed: HTTP status 404 Not Found", False),
        ({"status": 503}, "download failed: HTTP status 503 Service Unavailable", True),
        ({"length": 9}, "download failed: it broke off after 5 of 9 bytes", True),
        ({"length": 65 << 20}, "download failed: more than 64 MiB", False),
        ({"body": bytes(2000)}, "download failed: more than 0 MiB", False),
        ({"body": bytes(50), "pause": 0.1}, "download failed: not complete within 0.5 s", True),
    ],
)
def test_downloads_that_fail(options, told, passing, monkeypatch):
    if told.endswith(" 0 MiB"):
        monkeypatch.setattr(web, "MAX_BYTES", 1000)
    with website(functools.partial(answering, **options)) as url, pytest.raises(Exception, match=told) as raised:
        read_named(f"{url}/a.jpg", 0.5)
    assert isinstance(raised.value, SourceUnavailable if passing else InvalidInput)
    assert may_pass(raised.value) == passing


def test_urls_as_people_paste_them():
    asked = []

    def answer(handler):
        asked.append((handler.path, handler.headers["User-Agent"]))
        answering(handler)

    with website(answer) as url:
        assert read_named(f"{url}/a b/grün.jpg?q=%20ü#top") == b"image"
    assert asked == [("/a%20b/gr%C3%BCn.jpg?q=%20%C3%BC", "cocoer-client")]
    with pytest.raises(InvalidInput, match="no URL of the web"):
        read_named("http://127.0.0.1:port/a.jpg")


def test_a_file_larger_than_a_request(here):
    with open("a.jpg", "wb") as file:
        file.truncate((256 << 20) + 1)
    with pytest.raises(InvalidInput, match="larger than 256 MiB, which is more than a request may have"):
        Source("a.jpg", "file", "a").read(1)
