"""Files that the client writes: names that fit, temporary files of killed runs, full disks, text for terminals."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cocoer_client import leftovers
from cocoer_client.files import RealPaths, cant_write, replace_bytes, replace_file, temporary_name
from cocoer_client.infer import command as infer
from cocoer_client.infer.report import format_line, format_result
from cocoer_client.leftovers import own_mark
from cocoer_client.pipeline.names import Names
from cocoer_client.sources import Source
from cocoer_client.terminal import complain
from tests.results import make_result


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "a" + "é" * 127, os.fsdecode(b"\xff" * 255), "a.png"])
@pytest.mark.parametrize("suffix", ["", ".mp4"])
def test_names_of_any_length_can_be_written(name, suffix, tmp_path):
    assert len(os.fsencode(temporary_name(tmp_path / name, suffix).name)) <= 255
    assert temporary_name(tmp_path / name, suffix).name.endswith(f".part{suffix}")
    replace_bytes(tmp_path / name, b"whole")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]


def test_annotated_images_of_long_names_have_names_of_their_own(tmp_path):
    stems = ["x" * 251 + end for end in "ab"] + ["é" * 126, os.fsdecode(b"\xff" * 251)]
    names = Names(tmp_path, [], {})
    paths = [names.of(Source(f"{stem}.jpg", "file", stem)) for stem in stems]
    assert len(set(paths)) == 4
    for path in paths:
        replace_bytes(path, b"image")  # the file system takes it
        assert path.suffix == ".jpg"


def test_many_of_one_name_are_named_in_a_moment(tmp_path):
    names, begun = Names(tmp_path, [], {}), time.process_time()
    paths = [names.of(Source(f"{index}/x.jpg", "file", "x")) for index in range(3000)]
    assert len(set(paths)) == 3000
    assert paths[-1].stem == "x-3000"
    assert time.process_time() - begun < 2  # counted from 2 each time: minutes


def test_an_input_behind_a_link_is_not_overwritten(tmp_path):
    """The annotated image's name is that of a link, or in a linked folder."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"x")
    (tmp_path / "out").symlink_to("in")
    (tmp_path / "self").symlink_to("self")
    inputs = [str(tmp_path / "in" / "a.png"), str(tmp_path / "self")]
    assert Names(tmp_path / "out", inputs, {}).of(Source(inputs[0], "file", "a")).name == "a-2.png"
    assert RealPaths().of(tmp_path / "out" / "a.png") == os.path.realpath(tmp_path / "in" / "a.png")


KILLED = """
import os, signal, sys
from pathlib import Path
from cocoer_client.files import replace_file

def write(temporary):
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

replace_file(Path(sys.argv[1]), write)
"""


def test_what_a_killed_run_left_is_removed(tmp_path):
    """By the next that writes there, at once; what others are writing, and what is no file of ours, stays."""
    path = tmp_path / "a.png"
    assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    day = time.time() - 25 * 3600
    mine = tmp_path / f".film.mp4.{own_mark()}-00000000.part.mp4"
    parent = tmp_path / f".b.png.{leftovers.place()}-{os.getppid()}0000-00000000.part"
    elsewhere, old = (tmp_path / f".{name}.png.000000-10000-00000000.part" for name in "cd")
    before, long_ago = (tmp_path / f".{name}.png.00000000.part" for name in "ef")
    others = [tmp_path / name for name in ("notes.part", ".notes.part", ".a.part.txt", "g.00000000.part")]
    for file in (mine, parent, elsewhere, old, before, long_ago, *others):
        file.write_bytes(b"half")
    for file in (old, long_ago, *others):
        os.utime(file, (day, day))
    replace_bytes(path, b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, mine, parent, elsewhere, before, *others])
    assert not left.exists()


def test_a_container_has_the_same_numbers_as_the_one_before(tmp_path):
    mark = f"{leftovers.place()}-{os.getpid()}"
    left, own = tmp_path / f".a.{mark}0000-00000000.part", tmp_path / f".a.{own_mark()}-00000000.part"
    assert leftovers.is_left(left.name, time.time())
    assert not leftovers.is_left(own.name, time.time())


@pytest.mark.parametrize(("code", "todo"), [(errno.ENOSPC, True), (errno.EROFS, False)])
def test_a_disk_that_takes_nothing(code, todo, tmp_path):
    """Writing to an open file does not say which; people are told, and what they can do."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError(code, os.strerror(code))

    with pytest.raises(OSError, match=os.strerror(code)) as raised:
        replace_file(tmp_path / "a.png", write)
    told = cant_write(raised.value)
    assert told.startswith(f"can't write {tmp_path}/a.png: {os.strerror(code)}")
    assert told.endswith("; make room, and give the same command with --resume") == todo
    assert list(tmp_path.iterdir()) == []


HOSTILE = os.fsdecode(b"\xff\x1b]0;owned\x07\x1b[2J\r\n.jpg")


def test_names_do_not_reach_the_terminal_as_they_are(capsys):
    record = {"file": HOSTILE, **make_result((9, 9), [])}
    record["image"]["damage"] = "\x1b[31mred"
    complain(f"{HOSTILE}: no image")
    told = [format_line(record), *format_result(HOSTILE, record).splitlines(), capsys.readouterr().err.rstrip("\n")]
    assert len(told) == 4
    for line in told:
        assert line.isprintable()
        assert line.encode()
    assert r"\xff\x1b]0;owned\x07\x1b[2J\x0d\x0a.jpg" in told[0]


@pytest.mark.parametrize("option", ["--csv", "--parquet", "--jsonl"])
def test_the_users_table_of_names_is_not_overwritten(option, tmp_path, monkeypatch, capsys):
    """Said before anything is asked: there is no server here."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"path": ["a.jpg"]}), "names.parquet")
    before = Path("names.parquet").read_bytes()
    assert infer.main(["names.parquet", option, "./names.parquet"]) == 2
    assert f"{option} names.parquet is an input, and would be overwritten" in capsys.readouterr().err
    assert Path("names.parquet").read_bytes() == before
