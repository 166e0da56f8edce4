"""Publishing a build: whole or not at all, whatever ends it; one at a time; nothing of anybody else's."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from export.files import write_json
from export.models import MODELS
from export.options import Options
from export.publishing import builds as module
from export.publishing.builds import Builds, PublishError
from export.publishing.exchange import exchange
from export.publishing.layout import MARKER, REPORT_FILE, build_path, onnx_path, record_path
from export.publishing.lock import Locked
from export.publishing.ownership import strangers
from export.publishing.repository import NotWhole, check_whole, complete, identity, published_identity
from tests.conftest import PROJECT
from tests.waiting import PATIENCE


def fill(directory: Path, version: str) -> None:
    """A whole build, with a few bytes for each ONNX file."""
    for model in MODELS:
        path = onnx_path(directory, model.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(f"{model.name} {version}")
    options, build = Options(repository=directory), {"version": version, "plans": []}
    complete(options, build)
    for name, digest in json.loads(build_path(directory).read_text())["files"].items():
        if name.endswith(".onnx"):
            write_json(record_path(directory, name.split("/")[0]), {"sha256": digest})
    write_json(directory / REPORT_FILE, {"engines": []})


def publish(repository: Path, version: str) -> None:
    builds = Builds(repository)
    with builds.alone("a test"):
        fill(builds.begin(), version)
        builds.publish()


def roll_back(repository: Path) -> None:
    builds = Builds(repository)
    with builds.alone("a test"):
        builds.roll_back()


def version_of(repository: Path) -> str:
    """Of a whole build, every byte of it."""
    check_whole(repository)
    return json.loads(build_path(repository).read_text())["version"]


def no_exchange(*_: object) -> None:
    raise OSError(errno.EINVAL, "as NFS says")


@pytest.fixture(params=["exchange", "link"])
def filesystem(request, monkeypatch):
    """One that can exchange directories, and one that can't."""
    if request.param == "link":
        monkeypatch.setattr(module, "exchange", no_exchange)
    return request.param


def test_the_last_build_is_kept_and_comes_back(tmp_path, filesystem):
    repository, builds = tmp_path / "models", Builds(tmp_path / "models")
    publish(repository, "one")
    with builds.alone("a test"), pytest.raises(PublishError, match=r"models has no earlier build to go back to"):
        builds.roll_back()
    for version, before in (("two", "one"), ("three", "two")):
        publish(repository, version)
        assert (version_of(repository), version_of(builds.previous)) == (version, before)
    for expected in ("two", "three"):
        roll_back(repository)
        assert version_of(repository) == expected
    assert repository.is_symlink() == (filesystem == "link")
    publish(repository, "four")
    assert (version_of(repository), version_of(builds.previous)) == ("four", "three")
    assert not list(tmp_path.rglob(MARKER))
    # Two builds, the lock, and nothing else.
    names = Counter(path.name.split("-")[0] for path in builds.directory.iterdir()) - Counter(["lock"])
    assert names == Counter(["previous"] if filesystem == "exchange" else ["previous", "build"])


def test_without_a_change_nothing_is_another_build(tmp_path):
    for name in ("one", "other"):
        fill(tmp_path / name, "1")
    assert published_identity(tmp_path / "one") == published_identity(tmp_path / "other") != ""
    config = tmp_path / "one" / "fusion" / "config.pbtxt"
    config.write_text(config.read_text() + "# tuned")
    assert published_identity(tmp_path / "one") != published_identity(tmp_path / "other")
    onnx_path(tmp_path / "other", "fusion").write_text("else")
    assert published_identity(tmp_path / "other") == published_identity(tmp_path / "nowhere") == ""
    assert identity(tmp_path / "other", {"a": 1}) != identity(tmp_path / "other", {"a": 2})


@pytest.mark.parametrize("damaged", ["fusion/1/model.onnx", "fusion/1/engine.json", "cocoer/1/build.json"])
def test_what_lies_on_the_disk_is_what_was_verified(tmp_path, damaged):
    fill(tmp_path, "1")
    check_whole(tmp_path)
    (tmp_path / damaged).write_text('{"sha256": "another"}')
    with pytest.raises(NotWhole, match="not the file|not a whole build"):
        check_whole(tmp_path)


def test_only_a_whole_build_comes_back(tmp_path):
    publish(tmp_path / "models", "one")
    publish(tmp_path / "models", "two")
    onnx_path(Builds(tmp_path / "models").previous, "fusion").unlink()
    with pytest.raises(PublishError, match=r"can't go back to the build before.*fusion/1/model.onnx is missing"):
        roll_back(tmp_path / "models")
    assert version_of(tmp_path / "models") == "two"


KILLED = """
import itertools, json, os, shutil, signal, sys
from pathlib import Path
from export.publishing import builds as module
from tests.unit import test_publishing as tests

EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "ctypes.dlsym"}
module._to_disk = lambda build: None  # of use when power is lost, which a killed process does not notice


def dies_before(step):
    # The process of a build, killed before its step-th change of a directory; of a tree that is removed, some of them.
    steps, removed = itertools.count(1), itertools.count()

    def hook(event, arguments):
        in_tree = event in ("os.remove", "os.rmdir") and arguments[1] != -1
        if event in EVENTS and not (in_tree and next(removed) % 20) and next(steps) == step:
            os.kill(os.getpid(), 9)

    sys.addaudithook(hook)


def child(action, repository, step):
    if action == "roll_back":
        dies_before(step)
        tests.roll_back(repository)
        return
    builds = module.Builds(repository)
    with builds.alone("a test"):
        tests.fill(builds.begin(), "three")
        dies_before(step)
        builds.publish()


def every_step(action, kind, place):
    if kind == "link":
        module.exchange = tests.no_exchange
    for version in ("one", "two"):
        tests.publish(place / "before" / "models", version)
    for step in range(1, 2000):
        shutil.copytree(place / "before", place / "steps" / str(step), symlinks=True)
        code = forked(child, action, place / "steps" / str(step) / "models", step)
        if code != -signal.SIGKILL:
            sys.exit(code)


def forked(run, *arguments):
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        run(*arguments)
    except SystemExit as end:
        os._exit(end.code)
    except BaseException as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(3)
    os._exit(0)


cases = json.loads(sys.argv[1])
print(json.dumps([forked(every_step, action, kind, Path(place)) for action, kind, place in cases]))
"""
ACTIONS, KINDS = ("publish", "roll_back"), ("exchange", "link")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """What is done, and on which kind of filesystem -> where it was killed; all in one process, for its start takes
    longer than what it does."""
    cases = [(action, kind, str(tmp_path_factory.mktemp("killed"))) for action in ACTIONS for kind in KINDS]
    command = [sys.executable, "-c", KILLED, json.dumps(cases)]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stdout + run.stderr
    codes = json.loads(run.stdout)
    yield {case[:2]: (Path(case[2]), code, run.stderr) for case, code in zip(cases, codes)}
    for _, _, place in cases:
        shutil.rmtree(place)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_step(killed, action, kind):
    """SIGKILL before each change of a directory: one build or the other is there, and whoever comes next cleans up."""
    place, code, told = killed[action, kind]
    assert code == 0, told
    found = Counter()
    steps = sorted((place / "steps").iterdir(), key=lambda path: int(path.name))
    for step in steps[:-1]:  # the last ran through
        repository, builds = step / "models", Builds(step / "models")
        found[version_of(repository)] += 1
        with builds.alone("whoever comes next"):
            assert version_of(repository) in ("one", "two", "three")
            pair = {version_of(repository), version_of(builds.previous)}
            assert pair <= {"one", "two", "three"}
            assert len(pair) == 2
            known = {"lock", "holder.json", "previous", "next"}
            left = {path.name for path in builds.directory.iterdir()} - known
            assert left == ({repository.resolve().name} if kind == "link" else set())
            assert not (repository / MARKER).exists()
    new = {"publish": "three", "roll_back": "one"}[action]
    assert set(found) == {"two", new}, found


def test_one_at_a_time(tmp_path):
    """The second is told who the first is; a process that is killed holds nothing."""
    repository = tmp_path / "models"
    script = (
        "import sys, time; from pathlib import Path; from export.publishing.builds import Builds\n"
        f"with Builds(Path({str(repository)!r})).alone('python export/build_engines.py --force'):\n"
        "    print('held', flush=True)\n    sys.stdin.read()"
    )
    command, pipe = [sys.executable, "-c", script], subprocess.PIPE
    with subprocess.Popen(command, cwd=PROJECT, text=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdout.readline() == "held\n"
        told = rf"models is being written by process {process.pid} on \S+ since \S+ \(python export.* --force\); run"
        with pytest.raises(Locked, match=told), Builds(repository).alone("another"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    publish(repository, "one")
    assert version_of(repository) == "one"


@pytest.mark.parametrize(
    "name",
    ["fusion/2/model.onnx", "fusion/1/weights.bin", "theirs/config.pbtxt", "notes.txt", "cocoer/1/extra.py", "a/b/c"],
)
def test_what_others_put_there_is_not_removed(tmp_path, name):
    repository = tmp_path / "models"
    publish(repository, "one")
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("theirs")
    with pytest.raises(PublishError, match=f"models holds what no build has written .{name}."):
        publish(repository, "two")
    assert (repository / name).read_text() == "theirs"
    assert version_of(repository) == "one"


def test_another_teams_models_of_the_same_names(tmp_path):
    """Nothing says that a build wrote them."""
    for name in ("detection/config.pbtxt", "detection/1/model.onnx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("theirs")
    assert strangers(tmp_path) == ["detection/1/model.onnx", "detection/config.pbtxt"]
    with pytest.raises(PublishError, match="give --repository a directory of its own"):
        publish(tmp_path, "one")


def test_what_passes_away_does_not_count(tmp_path):
    repository = tmp_path / "models"
    repository.mkdir()
    publish(repository, "one")  # an empty directory is nobody's
    for name in ("cocoer/1/cocoer_bls/__pycache__/a.pyc", "fusion/1/.model.onnx.7.part", "tensorrt_timing.cache"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text("")
    os.remove(repository / "fusion" / "config.pbtxt")  # as git does with files that it no longer tracks
    publish(repository, "two")
    assert version_of(repository) == "two"


def test_permissions_stay(tmp_path):
    publish(tmp_path / "models", "one")
    (tmp_path / "models").chmod(0o750)
    publish(tmp_path / "models", "two")
    assert (tmp_path / "models").stat().st_mode & 0o777 == 0o750


def test_a_link_of_the_users_stays(tmp_path):
    (tmp_path / "models").symlink_to(tmp_path / "disk" / "models")
    (tmp_path / "disk").mkdir()
    for version in ("one", "two"):
        publish(tmp_path / "models", version)
        assert version_of(tmp_path / "disk" / "models") == version
    assert (tmp_path / "models").is_symlink()
    assert not (tmp_path / "disk" / "models").is_symlink()


def test_a_link_may_be_moved_with_its_builds(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "exchange", no_exchange)
    publish(tmp_path / "one" / "models", "one")
    (tmp_path / "one").rename(tmp_path / "two")
    publish(tmp_path / "two" / "models", "two")
    assert (version_of(tmp_path / "two" / "models"), version_of(Builds(tmp_path / "two" / "models").previous)) == (
        "two",
        "one",
    )


def test_directories_that_can_not_be_replaced(tmp_path, monkeypatch):
    with pytest.raises(PublishError, match=r"/proc is a mount point.*--repository /proc/model_repository"):
        publish(Path("/proc"), "one")
    (tmp_path / "file").write_text("")
    with pytest.raises(PublishError, match="file is not a directory"):
        publish(tmp_path / "file", "one")
    with pytest.raises(PublishError, match="builds can't be kept beside"):
        publish(tmp_path / "file" / "models", "one")
    publish(tmp_path / "models", "one")
    monkeypatch.setattr(module, "exchange", no_exchange)
    with pytest.raises(PublishError, match=r"can't exchange two directories.*mv \S+models \S+models.before"):
        publish(tmp_path / "models", "two")
    assert version_of(tmp_path / "models") == "one"


def test_exchange(tmp_path):
    """Both names, at once; an error leaves both."""
    for name in ("one", "other"):
        (tmp_path / name / f"in {name}").mkdir(parents=True)
    exchange(tmp_path / "one", tmp_path / "other")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["in other"]
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "one", tmp_path / "nowhere")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["in one"]
