"""What the chart's servers run before they serve, with a stand-in for the build: it waits, marks, keeps and removes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.deploy import engines
from tests.conftest import PROJECT
from tests.waiting import until

BUILD = """
import json, os, pathlib, sys, time
arguments = sys.argv[1:]
(place,) = [pathlib.Path(one.partition("=")[2]) for one in arguments if one.startswith("--repository=")]
(place.parent / "arguments").write_text(" ".join(arguments))
with (place.parent / "runs").open("a") as file:
    file.write("run\\n")
while (place.parent / "pause").exists():
    time.sleep(0.05)
if "--fail" in arguments:
    raise SystemExit(3)
(place / "cocoer" / "1").mkdir(parents=True, exist_ok=True)
if "--half" not in arguments:
    (place / "cocoer" / "1" / "build.json").write_text("{}")
"""


@pytest.fixture
def ensure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """``ensure`` in a directory of its own, where a script takes the build's place."""
    (tmp_path / "build.py").write_text(BUILD)
    monkeypatch.setattr(engines, "BUILD_COMMAND", (str(tmp_path / "build.py"),))
    monkeypatch.setattr(engines, "POLL", 0.05)
    shared = tmp_path / "engines"

    def call(name: str, *options: str, keep: int = 3, deadline: float = 60) -> int:
        return engines.ensure(shared, name, list(options), keep, deadline)

    return call


def there(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "engines").iterdir()}


def runs(tmp_path: Path, name: str) -> int:
    return len((tmp_path / "engines" / name / "runs").read_text().split())


def used(tmp_path: Path, *names: str) -> None:
    """Say that these builds were used last in this order."""
    for moment, name in enumerate(names):
        os.utime(tmp_path / "engines" / name / engines.COMPLETE, (moment, moment))


def test_what_is_there_is_not_built_again(ensure, tmp_path):
    assert (ensure("one"), ensure("one")) == (0, 0)
    assert runs(tmp_path, "one") == 1


def test_a_build_takes_over_what_fits_of_others(ensure, tmp_path):
    """The last used first, and nothing of one that is not whole."""
    for name in ("one", "two"):
        assert ensure(name) == 0
    assert ensure("broken", "--fail") != 0
    used(tmp_path, "two", "one")
    assert ensure("three", "--precision", "fp16") == 0
    shared = tmp_path / "engines"
    reused = [f"--reuse={shared / name / 'model_repository'}" for name in ("one", "two")]
    told = (shared / "three" / "arguments").read_text()
    assert told == " ".join([f"--repository={shared / 'three' / 'model_repository'}", *reused, "--precision", "fp16"])


@pytest.mark.parametrize(("options", "code"), [(("--fail",), 3), (("--half",), 1)])
def test_a_build_that_fails_is_not_complete_and_is_tried_again(ensure, tmp_path, options, code, capfd):
    assert ensure("old") == 0
    assert ensure("new", *options) == code
    assert "the engines new were not built" in capfd.readouterr().err
    assert there(tmp_path) == {"old", "new"}
    assert ensure("new") == 0
    assert runs(tmp_path, "new") == 2


def test_a_build_that_hangs_is_ended(ensure, tmp_path, capfd):
    (tmp_path / "engines" / "one").mkdir(parents=True)
    (tmp_path / "engines" / "one" / "pause").touch()
    assert ensure("one", deadline=0.5) == 124
    assert "not built within 0.5 s" in capfd.readouterr().err


def test_the_last_used_are_kept(ensure, tmp_path):
    for name in ("a", "b", "c"):
        assert ensure(name) == 0
    used(tmp_path, "b", "a", "c")
    assert ensure("d") == 0
    assert there(tmp_path) == {"a", "c", "d"}
    used(tmp_path, "a", "c", "d")
    assert ensure("a") == 0  # a rollback
    assert ensure("e", keep=2) == 0
    assert there(tmp_path) == {"a", "e"}


def test_what_a_server_holds_is_kept(ensure, tmp_path):
    """By the chart's own command, which ends as the server does."""
    assert ensure("old") == 0
    hold = ["flock", "--shared", "--no-fork", str(tmp_path / "engines" / "old" / engines.IN_USE)]
    with subprocess.Popen([*hold, "sh", "-c", "echo held; exec sleep 600"], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"held\n"
        for name in ("a", "b", "c"):
            assert ensure(name, keep=2) == 0
        assert there(tmp_path) == {"old", "b", "c"}
        server.terminate()
        assert server.wait() == -signal.SIGTERM
    assert ensure("d", keep=2) == 0
    assert there(tmp_path) == {"c", "d"}


def test_what_failed_builds_have_left_goes_with_the_next_that_succeeds(ensure, tmp_path):
    assert ensure("a") == 0
    assert ensure("broken", "--fail") == 3
    (tmp_path / "engines" / "somebody-elses").mkdir()
    (tmp_path / "engines" / f"{engines.REMOVED}one" / "left").mkdir(parents=True)
    assert ensure("b") == 0
    assert there(tmp_path) == {"a", "b", "somebody-elses"}


def program(tmp_path: Path, name: str, *options: str) -> subprocess.Popen[str]:
    """The command, as a process."""
    code = (
        "import sys; from serving.deploy import engines; engines.POLL = 0.05; "
        f"engines.BUILD_COMMAND = ({str(tmp_path / 'build.py')!r},); sys.exit(engines.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, f"--engines={tmp_path / 'engines'}", f"--name={name}", "--", *options]
    environment = {**os.environ, "POD_NAME": f"pod-{name}"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=PROJECT)


@pytest.fixture
def building(ensure: Callable[..., int], tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The command while its build runs, which ends once ``pause`` is removed from its directory; and that directory."""
    place = tmp_path / "engines" / "one"
    place.mkdir(parents=True)
    (place / "pause").touch()
    with program(tmp_path, "one") as process:
        until((place / "runs").exists)
        yield process, place


def test_who_comes_second_waits_and_says_for_whom(building, tmp_path):
    first, place = building
    with program(tmp_path, "one") as second:
        assert second.stderr is not None
        assert "waiting for the engines one, which pod-one (since " in second.stderr.readline()
        (place / "pause").unlink()
        assert (first.wait(), second.wait()) == (0, 0)
    assert runs(tmp_path, "one") == 1


def test_who_waits_goes_on_where_the_first_was_killed(building, tmp_path):
    first, place = building
    with program(tmp_path, "one") as second:
        assert second.stderr is not None
        second.stderr.readline()
        (place / "pause").unlink()
        first.kill()
        assert second.wait() == 0
    assert runs(tmp_path, "one") == 2


def test_sigterm_ends_the_build(building):
    process, place = building
    process.terminate()
    assert process.wait() == 128 + signal.SIGINT
    assert not (place / engines.COMPLETE).exists()


def test_no_file_of_a_build_is_open_while_it_is_removed(ensure, tmp_path, monkeypatch):
    """NFS would keep the directory."""
    removing: list[str] = []

    def remove(place: Path, **_: object) -> None:
        links = [Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        removing.append(place.name)
        assert not [one for one in links if one.exists() and place in one.resolve().parents]

    assert ensure("old") == 0
    assert ensure("older") == 0
    monkeypatch.setattr(engines.shutil, "rmtree", remove)
    assert ensure("new", keep=2) == 0
    assert removing == [f"{engines.REMOVED}old"]


def test_a_directory_that_is_none_is_told(tmp_path, capfd):
    (tmp_path / "file").touch()
    assert engines.main([f"--engines={tmp_path / 'file'}", "--name=one"]) == 2
    assert "the engines can't be kept in" in capfd.readouterr().err
