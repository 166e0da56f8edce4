"""The client without a server: what it sends, what it makes of results, files, text, usage."""

import argparse
import doctest
import importlib
import io
import json
import pickle
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cocoer_client import CocoerError, InvalidInput, InvalidRequest, Result, ServerBusy
from cocoer_client.batches import Batch, as_outcome
from cocoer_client.command import add_thresholds, thresholds_of
from cocoer_client.drawing.formats import save
from cocoer_client.errors import SourceUnavailable
from cocoer_client.infer import command as infer
from cocoer_client.infer.arguments import make_parser, parse_args
from cocoer_client.infer.report import format_line, format_result
from cocoer_client.infer.targets import check_targets
from cocoer_client.inputs import encode_image, persons_rows, read_persons
from cocoer_client.ordered import in_order
from cocoer_client.pipeline.names import Names
from cocoer_client.pipeline.options import RunOptions
from cocoer_client.protocol import MAX_BATCH
from cocoer_client.reading import warnings_of
from cocoer_client.sources import find_sources
from tests.builds import PROJECT
from tests.results import make_person, make_result

BODY, HEAD = [0, 0, 60, 80], [10, 10, 30, 30]


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


class TestImages:
    def test_bytes_are_sent_as_they_are(self, tmp_path):
        (tmp_path / "x.png").write_bytes(b"anything")
        for image in (b"anything", bytearray(b"anything"), tmp_path / "x.png", str(tmp_path / "x.png")):
            assert encode_image(image) == b"anything"

    @pytest.mark.parametrize("shape", [(30, 40), (30, 40, 3), (30, 40, 4)])
    def test_arrays_lose_nothing(self, shape, rng):
        array = rng.integers(0, 256, shape, dtype=np.uint8)
        assert np.array_equal(decoded(encode_image(array)), array)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
    def test_pillow_images_lose_nothing(self, mode, rng):
        image = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).convert(mode)
        assert np.array_equal(decoded(encode_image(image)), np.asarray(image))

    def test_modes_that_png_has_not_become_rgb(self):
        assert decoded(encode_image(Image.new("CMYK", (4, 3)))).shape == (3, 4, 3)

    def test_pillow_images_are_turned_like_files(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        stream = io.BytesIO()
        Image.new("RGB", (30, 20)).save(stream, "JPEG", exif=exif)
        assert decoded(encode_image(Image.open(stream))).shape == (30, 20, 3)

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (np.zeros((3, 4, 3)), "must be uint8 with values from 0 to 255, got float64"),
            (np.zeros((3, 40, 50), dtype=np.uint8), r"\[height, width, 3\] \(RGB\).*got \[3, 40, 50\]"),
            (np.zeros((0, 4, 3), dtype=np.uint8), r"got \[0, 4, 3\]"),
            (7, "bytes, a path, a NumPy array or a Pillow image, not int"),
            ("absent.png", "No such file or directory"),
        ],
    )
    def test_what_is_no_image(self, image, message):
        with pytest.raises(InvalidInput, match=message):
            encode_image(image)

    def test_boxes(self):
        rows = persons_rows([{"body": BODY, "head": HEAD}, {"body": BODY}, {"body": BODY, "head": None}])
        assert rows.tolist() == [[*BODY, *HEAD], [*BODY, 0, 0, 0, 0], [*BODY, 0, 0, 0, 0]]
        assert persons_rows([]).shape == (0, 8)

    @pytest.mark.parametrize("person", [{}, {"head": HEAD}, {"body": [1, 2, 3]}, {"body": "abcd"}, [1, 2, 3, 4]])
    def test_what_is_no_box(self, person):
        with pytest.raises(InvalidInput, match="person 1: boxes are"):
            persons_rows([{"body": BODY}, person])


class TestBatches:
    def test_images_with_as_many_boxes_share_a_request(self):
        one, two = [{"body": BODY}], [{"body": BODY}] * 2
        batch = Batch([b"a", b"b", b"c", 5, b"e"], [None, one, two, one, one])
        assert sorted([item.index for item in request.images] for request in batch.requests) == [[0], [1, 4], [2]]
        assert isinstance(*batch.outcomes(), InvalidInput)

    def test_requests_are_no_larger_than_the_server_takes(self):
        batch = Batch([b"x"] * 19, None)
        assert [len(request.images) for request in batch.requests] == [MAX_BATCH, MAX_BATCH, 3]

    def test_boxes_for_each_image(self):
        with pytest.raises(InvalidInput, match="2 entries for 1 images"):
            Batch([b"x"], [None, None])

    def test_outcomes_are_in_the_order_of_the_images(self):
        batch = Batch([b"a", 5, b"b", b"c"], [None, None, [{"body": BODY}], None])
        detected, given = batch.requests
        with batch.asking(given):
            raise InvalidRequest("PERSONS is wrong")
        with batch.asking(detected):
            batch.answered(detected, [make_result((640, 480), []), make_result((320, 240), [])])
        kinds = [type(outcome) for outcome in batch.outcomes()]
        assert kinds == [Result, InvalidInput, InvalidRequest, Result]
        assert [batch.outcomes()[index].width for index in (0, 3)] == [640, 320]

    def test_errors_in_a_batch(self):
        wrong = as_outcome({"error": {"code": "INVALID_ARG", "message": "IMAGE is empty", "reason": "empty"}})
        older = as_outcome({"error": {"code": "INVALID_ARG", "message": "IMAGE is empty"}})
        busy = as_outcome({"error": {"code": "UNAVAILABLE", "message": "short of memory"}})
        assert isinstance(wrong, InvalidRequest)
        assert str(wrong) == str(older) == "IMAGE is empty"
        assert isinstance(older, InvalidRequest)
        assert (wrong.reason, older.reason) == ("empty", None)
        assert pickle.loads(pickle.dumps(wrong)).reason == "empty"  # between processes of cocoer-batch
        assert isinstance(busy, ServerBusy)


class TestInOrder:
    def test_order_is_kept_and_work_overlaps(self):
        """Four at once, of which the first ends last."""
        running, maximum, lock = 0, 0, threading.Lock()
        all_four, others_done = threading.Barrier(4, timeout=60), threading.Event()

        def work(number):
            nonlocal running, maximum
            with lock:
                running += 1
                maximum = max(maximum, running)
            if number < 4:
                all_four.wait()
            if number == 0:
                assert others_done.wait(60)
            if number == 4:  # begun where one of the four has ended
                others_done.set()
            with lock:
                running -= 1
            return number

        assert list(in_order(work, range(20), workers=4)) == list(range(20))
        assert maximum == 4

    def test_no_more_is_taken_than_there_is_room_for(self):
        taken = []
        outcomes = in_order(lambda x: x, (taken.append(x) or x for x in range(1000)), workers=2, ahead=3)
        next(outcomes)
        assert len(taken) <= 7
        outcomes.close()
        assert len(taken) <= 7


@pytest.fixture
def folder(tmp_path):
    for name in ("a.JPG", "notes.txt", ".hidden.png", "b/c.png", "b/d.mp4", "outputs/a.png", "b/.git/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


class TestSources:
    def test_folders_with_all_below_but_results(self, folder):
        sources = find_sources([str(folder)], False, folder / "outputs")
        assert [source.name for source in sources] == [str(folder / name) for name in ("a.JPG", "b/c.png", "b/d.mp4")]
        assert [str(source.target) for source in sources] == ["a", "b/c", "b/d"]
        assert [source.kind for source in sources] == ["file", "file", "video"]

    def test_globs_files_and_nothing_twice(self, folder):
        inputs = [str(folder / "**" / "*.png"), str(folder / "b/c.png"), str(folder / "absent.png"), "-", "camera:1"]
        sources = find_sources(inputs, False, folder / "elsewhere")
        names = ["b/c.png", "outputs/a.png", "absent.png"]
        assert [source.name for source in sources] == [*(str(folder / name) for name in names), "stdin", "camera:1"]
        assert [source.kind for source in sources[-2:]] == ["stdin", "camera"]

    def test_urls_on_request_only(self):
        url = "http://localhost:1/some/picture.jpg?size=3"
        with pytest.raises(InvalidInput, match="--allow-url"):
            find_sources([url], False, Path("outputs"))
        (source,) = find_sources([url], True, Path("outputs"))
        assert (source.kind, str(source.target)) == ("url", "picture")
        with pytest.raises(SourceUnavailable, match="download failed"):
            source.read(timeout=1)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("*.nothing", "nothing matches"),
            ("camera:x", "camera:0, camera:1"),
            ("", "an input without a name"),
            ("http://[x", "neither a file nor a URL"),
        ],
    )
    def test_what_names_nothing(self, given, message, tmp_path):
        with pytest.raises(InvalidInput, match=message):
            find_sources([given], False, tmp_path)

    def test_folder_without_images(self, tmp_path):
        with pytest.raises(InvalidInput, match="no images in this folder"):
            find_sources([str(tmp_path)], False, tmp_path / "outputs")

    def test_names_do_not_collide(self, tmp_path):
        """Two images of one name, written to where one of them lies: both get a name, neither is overwritten."""
        inputs = [tmp_path / part / "x.png" for part in "ab"]
        for path in inputs:
            save(Image.new("RGB", (50, 50)), path)
        names = Names(tmp_path / "a", map(str, inputs), {})
        sources = find_sources([str(path) for path in inputs], False, tmp_path / "a")
        assert [names.of(source).name for source in sources] == ["x-2.png", "x-3.png"]


IMAGES = ("a.jpg", "b.JPG", "c.webp")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        # What the shell makes of --csv *.jpg: the first photo would become a table.
        (["--csv", "a.jpg", "c.webp"], "--csv a.jpg is named like an image or a video"),
        (["c.webp", "--json", "new.JPG"], "--json new.JPG is named like an image or a video"),
        (["a.jpg", "--csv", "film.MP4"], "--csv film.MP4 is named like an image"),
        (["a.jpg", "--jsonl", "./a.jpg"], "--jsonl a.jpg is an input, and would be overwritten"),
        (["raw", "--csv", "raw"], "--csv raw is an input, and would be overwritten"),
        (["a.jpg", "--persons", "boxes.json", "--json", "boxes.json"], "--json boxes.json is an input"),
        (["a.jpg", "--csv", "x", "--json", "./x"], "--json and --csv both name x; give each its own file"),
        (["a.jpg", "--explain", "x.html", "--jsonl", "x.html"], "--jsonl and --explain both name x.html"),
        (["a.jpg", "--csv", "folder"], "--csv folder is a directory; name a file in it"),
        (["folder", "--output-dir", "./folder"], "annotated images would go into folder, where the next run takes"),
    ],
)
def test_nothing_of_the_users_is_overwritten(arguments, told, tmp_path, monkeypatch, capsys):
    """Said before anything is asked: there is no server here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    files = (*IMAGES, "raw", "folder/a.png")
    for name in files:
        (tmp_path / name).write_bytes(b"a photo")
    (tmp_path / "boxes.json").write_text('[{"body": [0, 0, 9, 9]}]')
    assert infer.main(arguments) == 2
    assert told in capsys.readouterr().err
    assert {(tmp_path / name).read_bytes() for name in files} == {b"a photo"}


def test_what_may_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").write_bytes(b"a photo")
    for arguments in (
        ["folder", "--csv", "t.csv", "--json", "-", "--jsonl", "folder/r.jsonl"],
        ["folder", "--output-dir", "folder/out"],
        ["folder", "--output-dir", "folder", "--no-images"],
    ):
        args = parse_args(arguments)
        check_targets(args, find_sources(args.inputs, False, args.output_dir))


PACKAGE = PROJECT / "client" / "cocoer_client"
WITH_EXAMPLES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
]
"""Modules whose docstrings show what comes out."""


class TestText:
    @pytest.mark.parametrize("module", WITH_EXAMPLES)
    def test_docstrings(self, module):
        tried = doctest.testmod(importlib.import_module(module))
        assert tried.failed == 0
        assert tried.attempted > 0

    def test_warnings(self):
        assert warnings_of(make_result((1, 1), [])) == []
        assert "SYNTHETIC WEIGHTS" in warnings_of(make_result((1, 1), [], synthetic=True))[0]
        assert "FALLBACK DETECTOR" in warnings_of(make_result((1, 1), [], detector="opencv-haar"))[0]
        assert "SYNTHETIC DETECTORS" in warnings_of(make_result((1, 1), [], detector="scrfd (synthetic)"))[0]
        damaged = make_result((1, 1), [])
        damaged["image"]["damage"] = "the file ends early"
        assert warnings_of(damaged, boxes_given=True) == ["DAMAGED IMAGE: the file ends early"]
        assert warnings_of(make_result((1, 1), [], detector="opencv-haar"), boxes_given=True) == []

    def test_whole(self):
        labels = ("doubt / confusion", "happiness", "peace", "pleasure", "engagement", "excitement")
        text = format_result("a.png", make_result((640, 480), [make_person(1, [1, 2, 3, 4], [1, 2, 3, 4], labels)]))
        assert text.startswith("a.png  640x480  1 person\n")
        assert "excluded body-level > head-level > context-level" in text
        assert all(len(line) <= 100 for line in text.splitlines())
        assert all(f"{label} 0." in text for label in labels)
        assert "no persons" in format_result("a.png", make_result((640, 480), []))

    def test_line(self):
        persons = [make_person(1, BODY, HEAD, ("peace", "pain", "anger", "fear")), make_person(2, BODY, HEAD, ())]
        record = {"file": "a.png", **make_result((9, 9), persons)}
        assert format_line(record) == "a.png  #1 peace 0.95, pain 0.90, anger 0.85, ...; #2 no label"
        assert (
            format_line({"file": "v", "time_s": 1.5, "frame": 3, **make_result((9, 9), [])}) == "v 1.50 s  nobody found"
        )


class TestUsage:
    def test_boxes_file(self, tmp_path):
        boxes = [{"body": [1, 2, 3, 4.5], "head": [1, 2, 3, 4]}, {"body": [1, 2, 3, 4]}]
        (tmp_path / "boxes.json").write_text(json.dumps(boxes))
        assert read_persons(tmp_path / "boxes.json") == boxes

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["a.png", "b.png", "--persons", "x.json"], "--persons gives the boxes of one image"),
            (["a.png", "b.png", "--explain", "x.html"], "--explain gives the page of one image"),
            (["a.png", "--timeout", "0"], "must be more than 0 seconds"),
            (["a.png", "--concurrency", "0"], "must be 1 or more"),
            (["a.png", "--header", "authorization"], "must be NAME:VALUE"),
            (["a.png", "--json", "-", "--csv", "-"], "only one of --json, --jsonl, --csv and --coco"),
            (["-", "-"], "standard input"),
            (["-", "--resume"], "--resume can't tell"),
            (["a.png", "--resume", "--explain", "x.html"], "--explain needs a new answer"),
            (["a.png", "--tls-key", "x"], "go together"),
            ([], "the following arguments are required: INPUT"),
        ],
    )
    def test_what_makes_no_sense(self, arguments, message, capsys):
        with pytest.raises(SystemExit) as caught:
            infer.main(arguments)
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert "usage:" in error
        assert message in error

    def test_the_old_name_of_no_images(self, capsys):
        assert parse_args(["a.png", "--no-pictures"]).no_images
        assert parse_args(["a.png", "--no-images"]).no_images
        assert not parse_args(["a.png"]).no_images
        assert "pictures" not in make_parser().format_help()

    def test_help_teaches(self, capsys):
        with pytest.raises(SystemExit):
            infer.main(["--help"])
        text = capsys.readouterr().out
        for word in ("examples:", "--resume", "exit status: 0", "tab completion"):
            assert word in text
        assert all(action.help for action in make_parser()._actions)

    def test_tab_completes(self, tmp_path):
        """In a real bash, with the script as a user would load it."""
        (tmp_path / "holiday.jpg").touch()
        parser = make_parser()
        parser.prog = "cocoer-infer"
        import shtab

        (tmp_path / "script").write_text(shtab.complete(parser, "bash"))
        ask = "source ./script; COMP_WORDS=({0}); COMP_CWORD={1}; {2}; echo ${{COMPREPLY[@]}}"
        function = "_shtab_cocoer_infer"
        for words, index, expected in (
            ("cocoer-infer --out", 1, "--output-dir"),
            ("cocoer-infer --style rel", 2, "release"),
            ("cocoer-infer hol", 1, "holiday.jpg"),
        ):
            command = ["bash", "-c", ask.format(words, index, function)]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
            assert expected in done.stdout.split(), (words, done)


def test_errors_have_one_base():
    assert issubclass(InvalidInput, CocoerError)


def test_fast_decode_can_be_asked_for_and_declined():
    """A server's default may be either."""
    parser = argparse.ArgumentParser()
    add_thresholds(parser)
    for flags, expected in ((["--fast-decode"], True), (["--no-fast-decode"], False)):
        assert thresholds_of(parser.parse_args(flags)) == {"fast_decode": expected}
        assert RunOptions(fast_decode=expected).thresholds == {"fast_decode": expected}
    assert thresholds_of(parser.parse_args([])) == {}
