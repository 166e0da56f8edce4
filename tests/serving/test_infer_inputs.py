"""``cocoer-infer`` on what folders of people hold, against the real server: odd names, pipes, links, other formats."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import PROJECT
from tests.waiting import PATIENCE, until

INFER = [sys.executable, str(PROJECT / "client" / "infer.py")]
ODD = b"caf\xe9 \x1b[31m\n.jpg"
"""As Windows wrote it, with what turns a terminal red, and a second line."""
LONG = ("\N{LATIN SMALL LETTER E WITH ACUTE}" * 125).encode() + b".jpg"


@pytest.fixture
def folder(tmp_path):
    """Two images whose names are odd, and much that is none."""
    images = tmp_path / "pics [2020]"
    (images / ".thumbnails").mkdir(parents=True)
    Image.new("RGB", (90, 60), "navy").save(images / "plain.jpg")
    for odd in (ODD, LONG):
        (images / os.fsdecode(odd)).write_bytes((images / "plain.jpg").read_bytes())
    (images / "plain.jpg").unlink()
    for name in ("IMG_1.HEIC", "IMG_2.HEIC", "notes.txt", ".hidden.jpg"):
        (images / name).write_bytes(b"x")
    os.mkfifo(images / "pipe.jpg")
    (images / "loop").symlink_to(".")
    (images / "self.jpg").symlink_to("self.jpg")
    return images


def run(server, *arguments, **options):
    command = [*INFER, *arguments, "--url", server.url, "--timeout", str(PATIENCE)]
    return subprocess.run(command, capture_output=True, timeout=PATIENCE, **options)


def test_a_folder_of_all_kinds(opencv_server, folder, tmp_path):
    """What is an image is answered, drawn and resumed; the rest is said; nothing ends the run."""
    arguments = [folder, "--output-dir", tmp_path / "out", "--json", tmp_path / "all.json"]
    first = run(opencv_server, *arguments)
    assert first.returncode == 1
    told = first.stderr.decode()
    assert "2 images, no persons" in told
    assert "left out: 2 HEIC (convert them to JPEG), 2 hidden, 1 other file, 1 pipe or device" in told
    assert f"error: {folder}/self.jpg: Too many levels of symbolic links" in told
    assert "Traceback" not in told
    shown = first.stdout.decode()
    assert r"caf\xe9 \x1b[31m\x0a.jpg  nobody found" in shown
    assert "\x1b" not in shown + told
    drawn = [name for name in os.listdir(os.fsencode(tmp_path / "out")) if name.endswith((b".png", b".jpg"))]
    assert len(drawn) == 2
    assert any(name.startswith(ODD[:-4]) for name in drawn)
    results = json.loads((tmp_path / "all.json").read_text())
    assert {os.fsencode(os.path.basename(result["file"])) for result in results} == {ODD, LONG}
    assert all(os.path.exists(result["picture"]) for result in results)
    again = run(opencv_server, *arguments, "--resume")
    assert b"2 done before" in again.stderr


def test_a_table_of_names(opencv_server, folder, tmp_path):
    """One row has no name: the others are done, and the command says that it is not all."""
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    pq.write_table(pa.table({"image": ["a.jpg", None]}), tmp_path / "names.parquet")
    told = run(opencv_server, "names.parquet", "--column", "image", "--no-images", "--jsonl", "-", cwd=tmp_path)
    assert told.returncode == 1
    assert told.stderr.decode().splitlines()[-1] == (
        "error: names.parquet: 1 of 2 rows has no name in column 'image' (row 1, counted from 0)"
    )
    assert json.loads(told.stdout)["file"] == "a.jpg"


def test_a_pipe_of_the_shells(opencv_server, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    command = f'"{sys.executable}" "{INFER[1]}" <(cat a.jpg) --no-images --json - --url {opencv_server.url}'
    told = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, timeout=PATIENCE)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["image"]["width"] == 9


@pytest.mark.parametrize("given", ["-", "named"])
def test_the_first_ctrl_c_ends_waiting_for_a_pipe(given, opencv_server, tmp_path):
    """Somebody has begun to write to it, and doesn't go on."""
    os.mkfifo(tmp_path / "named")
    end = os.open(tmp_path / "named", os.O_RDWR)
    os.write(end, b"the beginning")
    command = [*INFER, given, "--no-images", "--url", opencv_server.url]
    with subprocess.Popen(command, cwd=tmp_path, stdin=end, stderr=subprocess.PIPE) as process:
        try:
            until(lambda: unread(end) == 0)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            os.close(end)
    assert process.returncode == 130
    assert b"Traceback" not in told


def unread(pipe):
    """Bytes that nobody has read yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
