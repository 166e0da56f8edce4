"""Timelines: what is gathered of a film, the rows, and the page, image and table of them."""

import csv
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from cocoer.labels import EMOTIC_LABELS
from cocoer_client.errors import InvalidInput
from cocoer_client.infer.command import main
from cocoer_client.timeline import collect
from cocoer_client.timeline.collect import Timeline
from cocoer_client.timeline.image import image
from cocoer_client.timeline.page import film_beside, page
from cocoer_client.timeline.rows import MAX_LABELS, MAX_PERSONS, colours_of, rows_of
from cocoer_client.timeline.writers import writer_of

PIXELS = np.full((200, 200, 3), 90, np.uint8)
MODEL = {"version": "1", "weights": "x", "synthetic": True, "detector": "scrfd", "precision": "fp32"}
ORDERS = (["head-level", "body-level", "context-level"], ["body-level", "context-level", "head-level"])


def person(track, strength, order=ORDERS[0], head=(50, 50, 90, 90)):
    """Label ``track`` is the strongest, then the following ones."""
    pred = [0.0] * 26
    for place in range(6):
        pred[(track + place) % 26] = round(strength * (1 - place / 10), 3)
    scores = {"pred": pred, **{key: [0.1] * 26 for key in ("VI", "head", "body", "ctx")}}
    return {"id": 1, "track": track, "head_box": list(head), "scores": scores, "emo_process": order}


def record(time_s, persons, **more):
    facts = {"file": "film.mp4", "time_s": time_s, "labels": list(EMOTIC_LABELS), "model": MODEL}
    return {**facts, "image": {"width": 200, "height": 200}, "persons": persons, **more}


def gathered(frames):
    timeline = Timeline()
    for one in frames:
        timeline.add(one, PIXELS)
    return timeline


def test_one_row_for_each_person():
    frames = [record(t / 10, [person(1, 0.9)] + ([person(5, 0.5)] if 10 <= t < 20 else [])) for t in range(40)]
    first, second = rows_of(gathered(frames))
    assert (first.number, first.frames, first.first_s, first.last_s) == (1, 40, 0, 3.9)
    assert (second.number, second.frames, second.first_s, second.last_s) == (5, 10, 1, 1.9)
    assert [line.label for line in first.lines] == list(EMOTIC_LABELS[1 : 1 + MAX_LABELS])
    assert len({line.colour for line in first.lines}) == MAX_LABELS
    (piece,) = first.lines[0].pieces
    assert [point.time_s for point in piece] == pytest.approx([t / 10 for t in range(40)])
    assert {point.mean for point in piece} == {0.9}
    assert first.face is not None


def test_a_detection_of_a_moment_has_no_row():
    """Unless the film has nobody who is seen for longer; the table has everybody."""
    frames = [record(t / 10, [person(1, 0.9)] + ([person(5, 0.5)] if t < 2 else [])) for t in range(40)]
    assert [row.number for row in rows_of(gathered(frames))] == [1]
    assert "(and 1 seen for less)" in page(gathered(frames), None)
    assert [row.number for row in rows_of(gathered(frames[:2]))] == [1, 5]


def test_who_is_away_has_a_gap():
    times = [t / 10 for t in range(20)] + [5 + t / 10 for t in range(20)]
    (row,) = rows_of(gathered([record(t, [person(1, 0.9)]) for t in times]))
    assert [(piece[0].time_s, piece[-1].time_s) for piece in row.lines[0].pieces] == [(0, 1.9), (5, 6.9)]


def test_frames_far_apart_are_one_line():
    (row,) = rows_of(gathered([record(10.0 * t, [person(1, 0.9)]) for t in range(20)]))
    assert len(row.lines[0].pieces) == 1


def test_the_exclusion_order():
    frames = [record(t / 10, [person(1, 0.9, ORDERS[t >= 10])]) for t in range(20)]
    (row,) = rows_of(gathered(frames))
    first, second, stays = row.order
    assert [(span.level, span.start_s) for span in first] == [("head", 0), ("body", pytest.approx(1))]
    assert [span.level for span in second] == ["body", "context"]
    assert [span.level for span in stays] == ["context", "head"]
    assert first[0].end_s == pytest.approx(1)


def test_memory_does_not_grow_with_the_film():
    """Two hours: times are put together, means and ranges stay."""
    timeline = Timeline()
    for second in range(7200):
        timeline.add(record(float(second), [person(1, 0.2 if second % 2 else 0.8)]), None)
    (someone,) = timeline.persons.values()
    assert collect.MAX_BINS / 2 - 1 <= len(someone.bins) <= collect.MAX_BINS
    (row,) = rows_of(timeline)
    points = [point for piece in row.lines[0].pieces for point in piece]
    assert np.mean([point.mean for point in points]) == pytest.approx(0.5, abs=0.01)
    assert {(point.low, point.high) for point in points[:-1]} == {(0.2, 0.8)}
    assert points[-1].time_s == pytest.approx(7200, abs=40)


def test_smoothed_scores_count():
    raw = person(1, 0.9)
    raw["smoothed"] = {"scores": person(1, 0.4)["scores"]}
    timeline = gathered([record(t / 10, [raw], asked={"smooth": 2.0}) for t in range(5)])
    (row,) = rows_of(timeline)
    assert row.lines[0].pieces[0][0].mean == 0.4
    assert "probabilities smoothed over 2 s" in page(timeline, None)


def test_colours_of_labels():
    """One person's labels have different ones, though there are more labels than colours."""
    shown = [[(3 * n + k) % 26 for k in range(MAX_LABELS)] for n in range(20)]
    colours = colours_of(shown)
    for labels in shown:
        assert len({colours[label] for label in labels}) == MAX_LABELS


def test_the_largest_face():
    timeline = Timeline()
    timeline.add(record(0.0, [person(1, 0.5, head=(0, 0, 10, 10))]), np.full((200, 200, 3), 10, np.uint8))
    timeline.add(record(0.1, [person(1, 0.5, head=(50, 50, 90, 90))]), np.full((200, 200, 3), 200, np.uint8))
    timeline.add(record(0.2, [person(1, 0.5, head=(0, 0, 20, 20))]), np.full((200, 200, 3), 60, np.uint8))
    timeline.add(record(0.3, [person(1, 0.5, head=(190, 190, 190, 200))]), PIXELS)
    face = timeline.persons[1].face
    assert face is not None
    assert face.getpixel((80, 80)) == (200, 200, 200)


class Parser(HTMLParser):
    """Classes and attributes of a page's elements."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def of(self, name):
        return [attributes for tag, attributes in self.found if tag == name or attributes.get("class") == name]


@pytest.mark.parametrize("count", [0, 1, 20, MAX_PERSONS + 5])
def test_pages_of_few_and_many(count):
    frames = [record(t / 5, [person(n + 1, 0.5 + n / 200) for n in range(count)]) for t in range(50)]
    timeline = gathered(frames)
    text = page(timeline, "film%20a.mp4")
    found = Parser(text)
    shown = min(count, MAX_PERSONS)
    assert len(found.of("chart")) == shown
    assert [one["src"] for one in found.of("video")] == ["film%20a.mp4"]
    assert len(found.of("warning")) == (1 if timeline.warnings else 0)
    assert len(timeline.warnings) == 1
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))
    assert len(data) == shown
    assert all(len(values) == len(one["t"]) for one in data for values in one["v"])
    assert not re.search(r"https?://", text)
    assert ("(and 5 seen for less)" in text) == (count > MAX_PERSONS)
    drawn = image(timeline)
    assert drawn.width == 1920
    assert drawn.height >= 1080


def test_names_are_text():
    """A file's name is no markup, in page and link."""
    timeline = gathered([record(0.0, [person(1, 0.5)])])
    timeline.file = "<script>alert(1)</script>.mp4"
    text = page(timeline, None)
    assert "<script>alert" not in text


def test_the_film_beside(tmp_path):
    """The annotated one, else the source, by a relative link; none that browsers can't play."""
    timeline = Timeline()
    (tmp_path / "pages").mkdir()
    where = tmp_path / "pages" / "t.html"
    timeline.file, timeline.picture = str(tmp_path / "a b#1.mp4"), str(tmp_path / "out" / "a.mp4")
    assert film_beside(timeline, where) is None
    (tmp_path / "a b#1.mp4").write_bytes(b"")
    assert film_beside(timeline, where) == "../a%20b%231.mp4"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.mp4").write_bytes(b"")
    assert film_beside(timeline, where) == "../out/a.mp4"
    timeline.file, timeline.picture = str(tmp_path / "a.avi"), None
    (tmp_path / "a.avi").write_bytes(b"")
    assert film_beside(timeline, where) is None


def test_writers(tmp_path):
    """By the suffix; nothing of a film without a frame; failures count, and are no rows."""
    frames = [record(0.0, [person(1, 0.5)]), {"file": "film.mp4", "time_s": 0.1, "error": {"message": "x"}}]
    for name in ("a.html", "a.PNG", "a.csv"):
        empty, written = writer_of(tmp_path / "none" / name), writer_of(tmp_path / name)
        for one in frames:
            written.add(one, PIXELS)
        for writer in (empty, written):
            writer.write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.PNG", "a.csv", "a.html", "none"]
    assert list((tmp_path / "none").iterdir()) == []
    with Image.open(tmp_path / "a.PNG") as drawn:
        assert drawn.size[0] == 1920
    assert "1 frame failed" in (tmp_path / "a.html").read_text()
    with (tmp_path / "a.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 5 * 26
    assert rows[1] == {"time": "0.0", "person": "1", "label": EMOTIC_LABELS[1], "probability": "0.5", "level": "final"}
    with pytest.raises(InvalidInput, match=r"--timeline writes \.html, \.png, \.csv files, not a\.txt"):
        writer_of(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["a.mp4", "b.mp4", "--timeline", "t.html"],
            "--timeline gives the persons of one video; run it for each video",
        ),
        (
            ["a.mp4", "--timeline", "t.html", "--timeline", "t.txt"],
            "--timeline writes .html, .png, .csv files, not t.txt",
        ),
        (["a.mp4", "--smooth", "0"], "must be more than 0 seconds, got 0"),
        (["a.mp4", "--timeline", "t.csv", "--csv", "t.csv"], "--csv and --timeline both name t.csv"),
        (["a.mp4", "--timeline", "a.mp4"], "--timeline writes"),
    ],
)
def test_refusals(arguments, message, capsys, tmp_path, monkeypatch):
    """Before anything is asked or written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"film")
    with pytest.raises(SystemExit, match="2"):
        sys.exit(main(arguments))
    assert message in capsys.readouterr().err
    assert (tmp_path / "a.mp4").read_bytes() == b"film"


def test_two_videos_of_a_folder(capsys, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"film")
    assert main([str(tmp_path), "--output-dir", str(tmp_path / "out"), "--timeline", str(tmp_path / "t.html")]) == 1
    assert "--timeline is for one video" in capsys.readouterr().err
