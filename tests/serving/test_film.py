"""``cocoer-infer`` on films: the same person through time, through a real server, looked at in a browser."""

import csv
import functools
import json
import signal
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from tests.browser import look_at
from tests.conftest import PROJECT, run_python
from tests.films import TURNED_90, moving, sample, truncate, turn, write_film
from tests.metrics import key, scrape
from tests.waiting import PATIENCE, until

INFER = PROJECT / "client" / "infer.py"
IMAGES_ASKED = key("cocoer_images_total")
SIDE = 512
FIRST, SECOND = 10, 6
"""Frames before and after the cut."""
TIMES = [0.0, 0.1, 0.2, 0.3, 0.7, 0.8, 0.85, 0.9, 1.0, 1.1, 1.5, 1.6, 1.7, 2.0, 2.1, 2.2]
"""As telephones have it: seconds of each frame."""


@pytest.fixture
def infer(opencv_server):
    """Run the command; the server's address, and time for a busy machine, are added."""
    return lambda *arguments: run_python(INFER, *arguments, "--url", opencv_server.url, "--timeout", str(PATIENCE))


def lines_of(path):
    """Those that are complete."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def elsewhere(count):
    """The second shot: the sample in other light, smaller, before a meadow."""
    small = Image.fromarray(sample(320)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    frames = []
    for index in range(count):
        canvas = Image.new("RGB", (SIDE, SIDE), (60, 150, 40))
        canvas.paste(small, (120 - 2 * index, 150))
        frames.append(np.asarray(canvas))
    return frames


@pytest.fixture
def film(tmp_path):
    """Somebody moving, a cut, somebody moving the other way; a variable frame rate, and sound."""
    return write_film(tmp_path / "film.mp4", moving(FIRST, SIDE) + elsewhere(SECOND), TIMES, sound="aac")


def test_a_film(infer, film, opencv_server, tmp_path):
    """Tracks, times and sound, and all that is written of them; then in a browser."""
    out, page = tmp_path / "out", tmp_path / "pages" / "film.html"
    timelines = ["--timeline", page, "--timeline", tmp_path / "film.png"]
    run = infer(film, "--output-dir", out, "--smooth", "0.5", *timelines, "--csv", tmp_path / "table.csv")
    assert run.returncode == 0, run.stderr
    frames = lines_of(out / "results.jsonl")
    assert [frame["time_s"] for frame in frames] == pytest.approx(TIMES, abs=2e-3)
    assert [frame["shot"] for frame in frames] == [1] * FIRST + [2] * SECOND
    assert [[person["track"] for person in frame["persons"]] for frame in frames] == [[1]] * FIRST + [[2]] * SECOND
    for frame in frames:
        (person,) = frame["persons"]
        assert len(person["smoothed"]["scores"]["pred"]) == 26
        above = [p > 0.26 for p in person["smoothed"]["scores"]["pred"]]
        assert sum(above) == len(person["smoothed"]["pred"])
    with (tmp_path / "table.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["track"] for row in rows] == ["1"] * FIRST + ["2"] * SECOND
    assert [float(row["time_s"]) for row in rows] == pytest.approx(TIMES, abs=2e-3)

    with av.open(str(out / "film.mp4")) as annotated:
        assert annotated.streams.audio[0].codec_context.name == "aac"
        shown = [frame.time for frame in annotated.decode(video=0)]
    assert shown == pytest.approx(TIMES, abs=2e-3)

    before = scrape(opencv_server)[IMAGES_ASKED]
    again = infer(film, "--output-dir", out, "--smooth", "0.5", "--timeline", tmp_path / "film.csv", "--resume")
    assert again.returncode == 0, again.stderr
    assert scrape(opencv_server)[IMAGES_ASKED] - before <= 1  # which model it is
    with (tmp_path / "film.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(TIMES) * 26 * 5
    assert {row["level"] for row in rows} == {"final", "V-I", "head", "body", "context"}
    first = next(row for row in rows if row["level"] == "final")
    person = frames[0]["persons"][0]
    assert float(first["probability"]) == pytest.approx(person["smoothed"]["scores"]["pred"][0], abs=1e-6)
    with Image.open(tmp_path / "film.png") as image:
        assert image.width == 1920
        assert image.getpixel((1900, 8)) == (0xB0, 0x00, 0x20)  # synthetic weights: as loud as elsewhere
    check_page(page, out / "film.mp4", frames)


def check_page(page_file, film, frames):
    """The page in a headless Chromium: a row for each person, the film plays, charts and keys seek in it."""

    def check(one):
        page = one.page
        until(functools.partial(page.evaluate, "document.querySelector('video').readyState >= 2"))
        assert page.evaluate("document.documentElement.scrollWidth") <= one.width
        assert page.locator(".warning").first.inner_text().startswith("SYNTHETIC WEIGHTS")
        assert page.locator(".person").count() == 2
        assert page.locator(".person .number").all_inner_texts() == ["1", "2"]
        assert page.evaluate("[...document.images].map(image => image.naturalWidth)") == [160, 160]
        assert page.evaluate("document.querySelector('video').duration") == pytest.approx(TIMES[-1], abs=0.3)
        chart = page.locator("#person-1 .plot").bounding_box()
        assert chart is not None
        page.mouse.click(chart["x"] + chart["width"] * 0.7 / TIMES[-1], chart["y"] + 30)
        until(functools.partial(page.evaluate, "!document.querySelector('video').seeking"))
        assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(0.7, abs=0.02)
        labels = page.locator("#person-1 .labels b").all_inner_texts()
        values = page.locator("#person-1 output").all_inner_texts()
        person = next(frame for frame in frames if frame["time_s"] == pytest.approx(0.7, abs=0.01))["persons"][0]
        scores = dict(zip(frames[0]["labels"], person["smoothed"]["scores"]["pred"]))
        assert [float(value) for value in values] == pytest.approx([scores[label] for label in labels], abs=0.006)
        page.locator("#person-2 .chart").focus()
        page.keyboard.press("End")
        assert page.locator("#person-2 .chart").get_attribute("aria-valuenow") == f"{TIMES[-1]:.2f}"
        page.keyboard.press("Home")
        page.keyboard.press("PageUp")
        moved = float(page.locator("#person-2 .chart").get_attribute("aria-valuenow") or 0)
        assert moved == pytest.approx(TIMES[-1] / 10, abs=0.02)
        assert one.problems == []
        assert set(one.fetched) == {page_file.as_uri(), film.as_uri()}

    look_at(page_file, 1200, check)


def test_a_turned_film(infer, tmp_path):
    """Filmed with the telephone on its side: the face is found where people see it."""
    lying = [np.rot90(frame) for frame in moving(2, SIDE)]
    film = turn(write_film(tmp_path / "film.mp4", lying), TURNED_90)
    run = infer(film, "--output-dir", tmp_path / "out", "--json", tmp_path / "all.json")
    assert run.returncode == 0, run.stderr
    x1, y1, x2, y2 = json.loads((tmp_path / "all.json").read_text())[0]["persons"][0]["head_box"]
    assert 150 < (x1 + x2) / 2 < 300
    assert 50 < (y1 + y2) / 2 < 200


def test_a_film_that_breaks_off(infer, tmp_path):
    """What there is has results and pictures; it is not done, which the exit status and --resume say."""
    whole = write_film(tmp_path / "film.mp4", moving(12, SIDE), container_options={"movflags": "faststart"})
    film, out = truncate(whole, 0.5), tmp_path / "out"
    run = infer(film, "--output-dir", out)
    assert run.returncode == 1
    assert "error: " in run.stderr
    assert "the video breaks off after" in run.stderr
    *frames, last = lines_of(out / "results.jsonl")
    assert 2 < len(frames) < 12
    assert not any(frame["last"] for frame in frames)
    assert "breaks off" in last["error"]["message"]
    with av.open(str(out / "film.mp4")) as annotated:
        assert sum(1 for _ in annotated.decode(video=0)) == len(frames)
    again = infer(film, "--output-dir", out, "--resume", "--no-images")
    assert again.returncode == 1
    assert "nothing left to do" not in again.stderr


CAMERA = """
import sys
from cocoer_client.video import opening
from cocoer_client.infer.command import main
opening.CAMERA_FORMATS[sys.platform] = ("lavfi", "movie={film}:loop=0,setpts=N/100/TB,realtime")
sys.exit(main(sys.argv[1:]))
"""


def test_a_camera_until_ctrl_c(opencv_server, tmp_path):
    """A film in the place of a camera, faster than anybody answers: frames are left out, and the film is kept."""
    film = write_film(tmp_path / "seen.mp4", moving(20, SIDE))
    out, timeline = tmp_path / "out", tmp_path / "live.html"
    command = [sys.executable, "-c", CAMERA.replace("{film}", str(film)), "camera:0", "--output-dir", out]
    command += ["--url", opencv_server.url, "--timeline", timeline]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    results = out / "results.jsonl"
    until(lambda: results.exists() and any(frame["frame"] > 10 for frame in lines_of(results)))
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130, said
    assert "left out, since they came faster than they were answered" in said
    assert "Traceback" not in said
    frames = lines_of(results)
    assert [frame["time_s"] for frame in frames] == pytest.approx([frame["frame"] / 100 for frame in frames], abs=0.011)
    assert frames[-1]["frame"] > len(frames) + 1
    with av.open(str(out / "camera-0.mp4")) as annotated:
        assert abs(sum(1 for _ in annotated.decode(video=0)) - len(frames)) <= 1
    assert "camera-0.mp4" in timeline.read_text()
