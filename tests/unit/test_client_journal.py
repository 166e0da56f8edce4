"""What of an earlier run's results counts, and what the journal keeps of it."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cocoer_client import InvalidInput
from cocoer_client.pipeline import Journal, RunOptions
from cocoer_client.pipeline.history import Judge
from cocoer_client.sources import Source, find_sources
from tests.results import make_result

PLAIN = RunOptions(images=False)
MODEL: Mapping[str, Any] = make_result((9, 9), [])["model"]
REFUSAL = {"kind": "InvalidRequest", "message": "not an image"}
PASSING = {"kind": "ServerError", "message": "500"}


@pytest.fixture
def source(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    return find_sources([str(tmp_path / "a.png")], False, tmp_path)[0]


@pytest.fixture
def film(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"x")
    return Source(str(tmp_path / "v.mp4"), "video", tmp_path)


def record_of(source, **more):
    return {"file": source.name, "source": source.fingerprint(), "asked": {}, **more, **make_result((9, 9), [])}


def failure_of(source, error, **more):
    return {"file": source.name, "source": source.fingerprint(), "asked": {}, **more, "model": MODEL, "error": error}


def written(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def reopened(path, source, options=PLAIN, resume=True, **model):
    journal = Journal(path, resume)
    journal.begin(Judge({**MODEL, **model}, options, [source]))
    journal.close()
    return journal


class TestImages:
    def test_done_is_told_again(self, source, tmp_path):
        record = record_of(source)
        written(tmp_path / "j", failure_of(source, PASSING), record)
        assert reopened(tmp_path / "j", source).done(source) == [record]
        assert reopened(tmp_path / "j", source, resume=False).done(source) is None
        assert json.loads((tmp_path / "j.previous").read_text()) == record

    def test_what_counts_is_kept_once(self, source, tmp_path):
        """Error lines are not repeated, others' lines are not lost, and the earlier file stays beside it."""
        other = {**record_of(source), "file": "other.png"}
        elsewhere = {**other, "file": "elsewhere.png", "model": {**MODEL, "weights": "others"}}
        lines = [record_of(source), other, *[failure_of(source, PASSING)] * 3, elsewhere, record_of(source)]
        written(tmp_path / "j", *lines)
        reopened(tmp_path / "j", source)
        kept = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]
        assert kept == [other, record_of(source)]
        assert (tmp_path / "j.previous").read_text().count("\n") == len(lines)

    def test_what_counts_wholly_stays_as_it_is(self, source, tmp_path):
        """The file that lies beside it is of the last run that changed something."""
        written(tmp_path / "j", record_of(source))
        written(tmp_path / "j.previous", {"file": "x"})
        reopened(tmp_path / "j", source)
        assert (tmp_path / "j.previous").read_text() == '{"file": "x"}\n'

    def test_a_refused_image_is_not_asked_again(self, source, tmp_path):
        refused = failure_of(source, REFUSAL)
        written(tmp_path / "j", refused)
        assert reopened(tmp_path / "j", source).done(source) == [refused]
        journal = reopened(tmp_path / "j", source, replace(PLAIN, retry_failed=True))
        assert journal.done(source) is None
        assert journal.notes == ["1 result is missing for a reason that may have passed: done again"]

    @pytest.mark.parametrize(
        ("before", "options", "model", "note"),
        [
            ({}, {}, {"weights": "w"}, r"of another model \(weights was none and is w\)"),
            ({}, {}, {"precision": "fp16"}, r"of another model \(precision was fp32 and is fp16\)"),
            ({}, {}, {"detector": "other"}, "of another model"),
            ({}, {}, {"coordination_step": 0.1}, "of another model"),
            ({}, {"final_threshold": 0.5}, {}, r"of another question \(final_threshold was the default and is 0.5\)"),
            ({"options": {"min_score": 0.7}}, {}, {}, r"of another question \(min_score was 0.7 and is the default\)"),
            (
                {},
                {"persons": [{"body": [0, 0, 9, 9]}]},
                {},
                r"of another question \(boxes was the default and is \w+\)",
            ),
            ({"asked": {"boxes": "1"}}, {"persons": [{"body": [0, 0, 9, 9]}]}, {}, "of another question"),
            ({"source": {"size": 7, "mtime_ns": 7}}, {}, {}, "of inputs that have changed"),
            (
                {"picture": "/absent.png", "asked": {"style": "panel"}},
                {"images": True},
                {},
                "without an annotated image",
            ),
            ({}, {"images": True}, {}, "without an annotated image"),
            ({"asked": None}, {}, {}, "of an older version"),
        ],
    )
    def test_what_was_made_otherwise_is_done_again(self, before, options, model, note, source, tmp_path):
        record = {**record_of(source), **before}
        if record["asked"] is None:
            del record["asked"]
        written(tmp_path / "j", record)
        journal = reopened(tmp_path / "j", source, replace(PLAIN, **options), **model)
        assert journal.done(source) is None
        (told,) = journal.notes
        assert re.match(f"1 result is {note}.*: done again$", told)
        assert (tmp_path / "j").read_text() == ""

    def test_the_style_is_that_of_images_alone(self, source, tmp_path):
        (tmp_path / "annotated.png").touch()
        drawn = record_of(source) | {"picture": str(tmp_path / "annotated.png"), "asked": {"style": "release"}}
        written(tmp_path / "j", drawn)
        assert reopened(tmp_path / "j", source).done(source) == [drawn]
        assert reopened(tmp_path / "j", source, RunOptions(style="release")).done(source) == [drawn]
        journal = reopened(tmp_path / "j", source, RunOptions(style="panel"))
        assert journal.done(source) is None
        assert journal.notes == ["1 result is of another question (style was release and is panel): done again"]
        assert journal.images == {source.name: str(tmp_path / "annotated.png")}, "the next has its name"

    def test_an_upgraded_server_changes_nothing(self, source, tmp_path):
        written(tmp_path / "j", record_of(source))
        assert reopened(tmp_path / "j", source, version="9").done(source) is not None

    def test_a_line_cut_short_by_a_crash(self, source, tmp_path):
        written(tmp_path / "j", record_of(source))
        whole = (tmp_path / "j").read_bytes()
        (tmp_path / "j").write_bytes(whole + b'{"file": "b.png", "ima')
        assert reopened(tmp_path / "j", source).done(source) is not None
        assert (tmp_path / "j").read_bytes() == whole

    @pytest.mark.parametrize("line", ["7", "[]", "not JSON", '{"name": 1}', '{"file": 3}', '{"file": "a", "model": 1}'])
    def test_lines_of_something_else(self, line, source, tmp_path):
        written(tmp_path / "j", record_of(source))
        (tmp_path / "j").write_text(f"{line}\n" + (tmp_path / "j").read_text())
        assert reopened(tmp_path / "j", source).done(source) is not None

    def test_without_links(self, source, tmp_path, monkeypatch):
        """On file systems that have none, the earlier file is copied."""

        def refuse(*_):
            raise OSError("no links here")

        monkeypatch.setattr("os.link", refuse)
        written(tmp_path / "j", record_of(source), record_of(source))
        reopened(tmp_path / "j", source)
        assert (tmp_path / "j.previous").read_text().count("\n") == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "j", "j.previous"]


class TestVideos:
    def frames(self, film):
        return [record_of(film, frame=index, time_s=index / 10, last=index == 2) for index in range(3)]

    def test_one_counts_when_its_last_frame_is_there(self, film, tmp_path):
        frames = self.frames(film)
        written(tmp_path / "j", *frames[:2])
        journal = reopened(tmp_path / "j", film)
        assert journal.done(film) is None
        assert journal.notes == ["2 results are of videos that were not finished: done again"]
        written(tmp_path / "j", *frames[:2], *frames)
        assert reopened(tmp_path / "j", film).done(film) == frames
        assert len((tmp_path / "j").read_text().splitlines()) == 3

    def test_one_with_a_failure_that_may_pass_is_done_again(self, film, tmp_path):
        frames = self.frames(film)
        failed = failure_of(film, PASSING, frame=1, time_s=0.1, last=False)
        written(tmp_path / "j", frames[0], failed, frames[2])
        assert reopened(tmp_path / "j", film).done(film) is None
        refused = {**failed, "error": REFUSAL}
        written(tmp_path / "j", frames[0], refused, frames[2])
        assert reopened(tmp_path / "j", film).done(film) == [frames[0], refused, frames[2]]

    def test_one_that_broke_off_is_done_again(self, film, tmp_path):
        broken = {"kind": "InvalidInput", "message": "it breaks off"}
        written(tmp_path / "j", *self.frames(film)[:2], failure_of(film, broken))
        assert reopened(tmp_path / "j", film).done(film) is None

    @pytest.mark.parametrize("options", [{"frame_step": 30}, {"max_frames": 2}])
    def test_other_frames_are_another_question(self, options, film, tmp_path):
        written(tmp_path / "j", *self.frames(film))
        journal = reopened(tmp_path / "j", film, replace(PLAIN, **options))
        assert journal.done(film) is None
        assert journal.notes[0].startswith("3 results are of another question")


def test_what_is_not_a_file_has_no_past(tmp_path):
    """A pipe or a device is written to; never moved away."""
    journal = Journal(Path("/dev/null"))
    journal.begin(Judge(MODEL, PLAIN, []))
    journal.add({"file": "a"})
    journal.close()
    assert Path("/dev/null").is_char_device()


def test_nothing_is_written_before_it_begins(tmp_path):
    with pytest.raises(ValueError, match="has not begun"):
        Journal(tmp_path / "j").add({"file": "a"})


@pytest.mark.parametrize("resume", [True, False])
def test_two_runs_do_not_write_one(resume, source, tmp_path):
    """The second would move the file away under the first."""
    first, second = Journal(tmp_path / "j"), Journal(tmp_path / "j", resume)
    first.begin(Judge(MODEL, PLAIN, [source]))
    first.add(record_of(source))
    with pytest.raises(InvalidInput, match="another run writes .*/j; wait for it"):
        second.begin(Judge(MODEL, PLAIN, [source]))
    assert len((tmp_path / "j").read_text().splitlines()) == 1
    first.close()
    second.begin(Judge(MODEL, PLAIN, [source]))
    assert (second.done(source) is not None) is resume
    second.close()
