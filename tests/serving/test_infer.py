"""``client/infer.py`` on many inputs, against the real server, as a user types it."""

import contextlib
import csv
import functools
import http.server
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading

import av
import pytest
from PIL import Image

from serving.server import TritonServer
from tests.browser import look_at
from tests.conftest import PROJECT, SAMPLE, run_python
from tests.films import moving, write_film
from tests.held import HeldImage
from tests.metrics import key, scrape, settled
from tests.serving.test_lifecycle import pid_of
from tests.waiting import PATIENCE, until

INFER = PROJECT / "client" / "infer.py"
IMAGES_ASKED = key("cocoer_images_total")
JOURNALS = ("results.jsonl", "results.jsonl.previous")
FOR_THE_MODEL = 1
"""An image of one pixel, at each run's beginning, whose answer says which model there is."""


@pytest.fixture
def infer(opencv_server):
    """Run the command; the server's address, and time for a busy machine, are added."""
    return lambda *arguments: run_python(INFER, *arguments, "--url", opencv_server.url, "--timeout", str(PATIENCE))


def asked(server):
    return scrape(server)[IMAGES_ASKED]


@pytest.fixture
def folder(tmp_path):
    """Five images, one of which is none, in two folders."""
    images = tmp_path / "pictures"
    (images / "deep").mkdir(parents=True)
    with Image.open(SAMPLE) as image:
        whole = image.convert("RGB")
    whole.save(images / "a.png")
    whole.resize((300, 300)).save(images / "b.jpg")
    (images / "bad.jpg").write_text("no image")
    Image.new("RGB", (90, 60), "navy").save(images / "nobody.bmp")
    whole.save(images / "deep" / "a.webp", lossless=True)
    return images


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_and_then_again(infer, folder, opencv_server, tmp_path):
    out = tmp_path / "out"
    run = infer(folder, "--output-dir", out, "--csv", tmp_path / "table.csv")
    assert run.returncode == 1
    warnings, *told = run.stdout.splitlines()[1:]
    assert run.stdout.startswith("!! SYNTHETIC WEIGHTS")
    assert warnings.startswith("!! FALLBACK DETECTOR")
    assert [line.split("  ")[0] for line in told] == [
        str(folder / name) for name in ("a.png", "b.jpg", "nobody.bmp", "deep/a.webp")
    ]
    assert "4 images, 3 persons" in run.stderr
    assert f"error: {folder}/bad.jpg: IMAGE is not an image" in run.stderr
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert written == ["a.png", "b.jpg", "deep/a.webp", "nobody.png", "results.jsonl"]
    with (tmp_path / "table.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(os.path.basename(row["file"]), row["person"], bool(row["error"])) for row in rows] == [
        ("a.png", "1", False),
        ("b.jpg", "1", False),
        ("bad.jpg", "", True),
        ("nobody.bmp", "", False),
        ("a.webp", "1", False),
    ]

    before = asked(opencv_server)
    Image.new("RGB", (80, 80)).save(folder / "bad.jpg")  # mended
    (out / "b.jpg").unlink()
    run = infer(folder, "--output-dir", out, "--resume", "--json", tmp_path / "all.json")
    assert run.returncode == 0, run.stderr
    assert "2 images, 1 person" in run.stderr
    assert "3 done before" in run.stderr
    assert asked(opencv_server) - before == 2 + FOR_THE_MODEL
    assert (out / "b.jpg").exists()
    files = [os.path.basename(result["file"]) for result in json.loads((tmp_path / "all.json").read_text())]
    assert files == ["a.png", "b.jpg", "bad.jpg", "nobody.bmp", "a.webp"]


@pytest.mark.needs("tiny_build")
def test_another_model_does_it_anew(infer, folder, server, tmp_path):
    """Resumed with another build, here with other detectors: no result of the first stays, and it is said why."""
    arguments = [folder / "a.png", folder / "nobody.bmp", "--no-images", "--output-dir", tmp_path / "out"]
    assert infer(*arguments).returncode == 0
    run = run_python(INFER, *arguments, "--resume", "--url", server.url, "--timeout", str(PATIENCE))
    assert run.returncode == 0, run.stderr
    assert re.search(r"^2 results are of another model \(.*detector was opencv", run.stderr, re.MULTILINE)
    first, second = ({line["model"]["detector"] for line in lines_of(tmp_path / "out" / name)} for name in JOURNALS)
    assert len(first) == len(second) == 1
    assert first != second


def started(*arguments, **options):
    """The command in the background."""
    command = [sys.executable, str(INFER), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def wait_for_lines(path, count, process):
    def there():
        assert process.poll() is None, process.communicate()
        return path.exists() and path.read_bytes().count(b"\n") >= count

    until(there)


@pytest.fixture
def many(tmp_path, rng):
    """Thirty different small images with the same person."""
    (tmp_path / "many").mkdir()
    with Image.open(SAMPLE) as image:
        for index in range(30):
            image.convert("RGB").resize((280 + index, 280)).save(tmp_path / "many" / f"{index:02}.jpg")
    return tmp_path / "many"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_stopped_midway_and_resumed(how, infer, many, opencv_server, tmp_path):
    """Nothing is lost, and what was done is not asked again. It is stopped at the ninth image, which lets it wait."""
    out = tmp_path / "out"
    # By their names: a pipe in a folder is no image.
    arguments = [*sorted(many.iterdir()), "--output-dir", out, "--concurrency", 2]
    held = HeldImage(many / "08.jpg")
    process = started(*arguments, "--url", opencv_server.url)
    wait_for_lines(out / "results.jsonl", 8, process)
    process.send_signal(how)
    if how == signal.SIGKILL:
        process.wait()
    held.release()
    _, errors = process.communicate(timeout=PATIENCE)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command with --resume does the rest" in errors
    before = settled(opencv_server)[IMAGES_ASKED]  # with what was on its way
    assert len(lines_of(out / "results.jsonl")) == 8
    run = infer(*arguments, "--resume", "--json", tmp_path / "all.json")
    assert run.returncode == 0, run.stderr
    assert "8 done before" in run.stderr
    assert asked(opencv_server) - before == 30 - 8 + FOR_THE_MODEL
    results = json.loads((tmp_path / "all.json").read_text())
    assert [result["file"] for result in results] == [str(many / f"{index:02}.jpg") for index in range(30)]
    assert all((out / f"{index:02}.jpg").exists() for index in range(30))
    assert [path for path in out.iterdir() if ".part" in path.name] == [] or how == signal.SIGKILL


def test_the_server_is_killed_midway(repositories, many, tmp_path):
    """The run waits while it is started anew: each image is answered, and once."""
    out, images = tmp_path / "out", sorted(many.iterdir())
    held = HeldImage(many / "08.jpg")
    with TritonServer(repositories("opencv"), tmp_path / "log") as server:
        options = ["--no-images", "--concurrency", 2, "--timeout", PATIENCE, "--patience", PATIENCE]
        process = started(*images, "--output-dir", out, "--url", server.url, *options)
        wait_for_lines(out / "results.jsonl", 8, process)
        os.kill(pid_of(server, ""), signal.SIGKILL)
        held.release()
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    records = lines_of(out / "results.jsonl")
    assert [record["file"] for record in records] == list(map(str, images))
    assert not any("error" in record for record in records)
    assert "starting the server anew" in (tmp_path / "log").read_text()


def test_the_server_is_lost_midway(repositories, many, tmp_path):
    """It is gone while the fifth image lets the command wait."""
    out, images = tmp_path / "out", sorted(many.iterdir())
    held = HeldImage(many / "04.jpg")
    with TritonServer(repositories("opencv"), tmp_path / "log", arguments=["--exit-timeout-secs=3"]) as server:
        options = ["--concurrency", 2, "--timeout", 5, "--patience", 2]
        process = started(*images, "--output-dir", out, "--url", server.url, *options)
        wait_for_lines(out / "results.jsonl", 4, process)
    held.release()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert "stopped, since the server is gone; what is done is kept" in errors
    assert errors.count("\n") < 15


def test_order_and_lines_on_standard_output(infer, many):
    run = infer(many, "--jsonl", "-", "--no-images", "--concurrency", 8, "--output-dir", many.parent / "out")
    assert run.returncode == 0, run.stderr
    records = [json.loads(line) for line in run.stdout.splitlines()]
    assert [record["image"]["width"] for record in records] == list(range(280, 310))
    assert not list((many.parent / "out").glob("*.jpg"))


def test_quiet_and_verbose(infer, folder, tmp_path):
    run = infer(folder / "a.png", folder / "b.jpg", "--quiet", "--output-dir", tmp_path / "out")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    run = infer(folder / "a.png", folder / "b.jpg", "--verbose", "--no-images", "--output-dir", tmp_path / "out2")
    assert run.stdout.count("  excluded ") == 2


def test_from_a_pipe_to_a_pipe(opencv_server, tmp_path):
    command = [sys.executable, INFER, "-", "--json", "-", "--no-images", "--url", opencv_server.url]
    run = subprocess.run(command, input=SAMPLE.read_bytes(), capture_output=True, cwd=tmp_path, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["file"] == "stdin"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def website(folder):
    """The folder's images by HTTP; ``/leave-SCHEME`` leads somewhere else."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/leave"):
                self.send_response(302)
                self.send_header("Location", f"{self.path.removeprefix('/leave-')}://localhost{folder}/a.png")
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as site:
        threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()


def test_urls(infer, website, tmp_path):
    out = tmp_path / "out"
    refused = infer(f"{website}/a.png", "--output-dir", out)
    assert refused.returncode == 1
    assert "pass --allow-url" in refused.stderr
    urls = [f"{website}/{name}" for name in ("a.png", "absent.png", "leave-file", "leave-ftp")]
    run = infer(*urls, "--allow-url", "--output-dir", out)
    assert run.returncode == 1
    assert "1 image, 1 person" in run.stderr
    assert f"error: {website}/absent.png: download failed: HTTP status 404" in run.stderr
    assert f"error: {website}/leave-file: download failed: HTTP status 302" in run.stderr
    assert f"error: {website}/leave-ftp: download failed: it leads to ftp://" in run.stderr
    assert (out / "a.png").exists()


@pytest.fixture
def film(tmp_path):
    """Twenty frames, ten a second, of the sample moving."""
    return write_film(tmp_path / "film.mp4", moving(20))


def test_a_video(infer, film, opencv_server, tmp_path):
    out = tmp_path / "out"
    run = infer(film, "--frame-step", 4, "--output-dir", out)
    assert run.returncode == 0, run.stderr
    frames = lines_of(out / "results.jsonl")
    assert [(frame["frame"], frame["time_s"]) for frame in frames] == [(0, 0), (4, 0.4), (8, 0.8), (12, 1.2), (16, 1.6)]
    assert [frame["last"] for frame in frames] == [False] * 4 + [True]
    heads = [frame["persons"][0]["head_box"][0] for frame in frames]
    assert heads == sorted(heads)
    assert heads[-1] - heads[0] == pytest.approx(48, abs=12)  # she moves by 3 pixels a frame
    with av.open(str(out / "film.mp4")) as video:
        shown = [(frame.time, frame.height > 512) for frame in video.decode(video=0)]  # the banner
    assert shown == [(pytest.approx(0.4 * index, abs=1e-3), True) for index in range(5)]

    before = asked(opencv_server)
    again = infer(film, "--frame-step", 4, "--output-dir", out, "--resume")
    assert again.returncode == 0
    assert "nothing left to do; 5 done before" in again.stderr
    assert asked(opencv_server) - before == FOR_THE_MODEL


def test_a_video_that_is_none(infer, tmp_path):
    (tmp_path / "film.mp4").write_text("no video")
    run = infer(tmp_path / "film.mp4", tmp_path / "absent.mov", "camera:7", "--output-dir", tmp_path / "out")
    assert run.returncode == 1
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [
        f"error: {tmp_path}/film.mp4: not a video that FFmpeg can read, or its beginning alone",
        f"error: {tmp_path}/absent.mov: No such file or directory",
        "error: camera:7: no such camera",
    ]


def test_the_bar_on_a_terminal(opencv_server, folder, tmp_path):
    """Rate and time left on a real terminal; none of it in a pipe (other tests)."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    command = [sys.executable, INFER, folder, "--url", opencv_server.url, "--output-dir", tmp_path / "out"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=follower)
    os.close(follower)
    text = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while part := os.read(leader, 4096):
            text += part
    os.close(leader)
    assert process.wait(timeout=PATIENCE) == 1
    assert b"5/5" in text
    assert b"image/s" in text or b"s/image" in text


def test_release_style(infer, tmp_path):
    run = infer(SAMPLE, "--style", "release", "--output-dir", tmp_path)
    assert run.returncode == 0, run.stderr
    with Image.open(tmp_path / "astronaut.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert {(0, 255, 0), (255, 255, 0), (0, 0, 255)} <= colours


def test_the_page_in_a_browser(infer, tmp_path):
    """--explain, in a headless Chromium, wide and narrow, light and dark: whole, self-contained, nothing cut off."""
    page_file = tmp_path / "why.html"
    boxes = [
        {"body": [84, 20, 363, 512], "head": [177, 67, 270, 160]},
        {"body": [300, 200, 512, 512], "head": [350, 250, 420, 330]},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    arguments = ["--persons", tmp_path / "boxes.json", "--explain", page_file, "--output-dir", tmp_path, "--json", "-"]
    run = infer(SAMPLE, *arguments)
    assert run.returncode == 0, run.stderr
    persons = json.loads(run.stdout)["persons"]

    def check(one):
        page = one.page
        page.wait_for_function(
            "[...document.images].every(image => image.complete) && document.fonts.status === 'loaded'"
        )
        assert one.problems == []
        assert one.fetched == [page_file.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= one.width
        images = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
        assert len(images) == 1 + 2 * 2  # the context crop is a background, once for all persons
        assert all(images)
        assert page.locator(".warning").inner_text().startswith("SYNTHETIC WEIGHTS")
        for person in persons:
            section = page.locator(f"#person-{person['id']}")
            chips = section.locator(".chip").all_inner_texts()
            assert [f"{chip}-level" for chip in chips] == person["emo_process"]
            struck = section.locator(".chip.first").evaluate("chip => getComputedStyle(chip).textDecorationLine")
            assert struck == "line-through"
            context = section.locator(".context-crop")
            assert context.evaluate("crop => getComputedStyle(crop).backgroundImage").startswith('url("data:image/')
            assert context.bounding_box()["height"] > 50
            # The thresholds lie on the axes where the points do.
            assert section.locator("thead .mark").all_inner_texts() == ["0.6", "0.6", "0.6", "0.26"]
            marks = [section.locator(where).first.bounding_box() for where in ("thead .mark", "svg .m")]
            axis, line = (mark["x"] + mark["width"] / 2 for mark in marks)
            assert abs(axis - line) < 3
            assert section.locator("tbody tr").count() == 26
            assert section.locator("tr.chosen").count() == len(person["pred"])
            assert section.locator("svg").count() == 3 * 26
            shown = section.locator("tbody tr").first.locator("svg title").first.text_content()
            label = section.locator("tbody th").first.inner_text()
            index = json.loads(run.stdout)["labels"].index(label)
            before, after = person["scores"]["head"][index], person["refined"]["head"][index]
            assert shown == f"head: {before:.2f} to {after:.2f}"

    look_at(page_file, 900, check)
