"""cocoer-batch on Ray, several workers, against the real server; what is killed midway, and what that costs."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.machine import process_family
from tests.conftest import PROJECT, SAMPLE
from tests.held import HeldImage
from tests.metrics import key, settled
from tests.waiting import PATIENCE, until

BATCH = [sys.executable, str(PROJECT / "client" / "batch.py")]
WORKERS, SHARD = 2, 4
IMAGES = 80
HELD = "041.png"
"""An image of the eleventh shard, which lets a run wait until the test has done to it what it does."""
SECRET = "Bearer s3cret-of-a-gateway"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images without anybody, one with somebody, one that is none."""
    images = tmp_path_factory.mktemp("pictures")
    for index in range(IMAGES - 2):
        Image.new("RGB", (500 + index, 400), (index, 90, 120)).save(images / f"{index:03d}.png")
    (images / "bad.jpg").write_text("no image")
    (images / "somebody.png").write_bytes(SAMPLE.read_bytes())
    return images


@pytest.fixture
def rays_own():
    """Where Ray writes its logs, and much else; its sockets need a short path."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def start(opencv_server, tmp_path, rays_own):
    """Start the command; it is ended with the test, whatever happens."""
    started = []
    environment = {**os.environ, "RAY_TMPDIR": str(rays_own)}

    def run(*inputs):
        command = [*BATCH, *map(str, inputs), "--output", str(tmp_path / "out"), "--url", opencv_server.url]
        command += ["--workers", str(WORKERS), "--shard-size", str(SHARD), "--concurrency", "2", "--json"]
        command += ["--header", f"authorization: {SECRET}"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def wait_for_shards(out, count, process):
    def there():
        assert process.poll() is None, process.communicate()
        return len(list(out.glob("shard=*/part.parquet"))) >= count

    until(there)


def ray_workers(pids):
    """Which of these processes are of our workers' class."""
    found = []
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if command.startswith(b"ray::") and b"Recogniser" in command:
            found.append(pid)
    return found


def asked(server):
    """Images that the server has been asked about; once it is at rest, since a killed client does not wait for it."""
    told = settled(server)
    return told[key("cocoer_images_total")] + told[key("cocoer_rejected_total", reason="format")]


def check_all_there(out, paths):
    """Every image once; the bad one with its error, the one with somebody recognised."""
    table = pq.read_table(out)
    rows = {row["path"]: row for row in table.to_pylist()}
    assert table.num_rows == len(rows) == len(paths)
    assert set(rows) == {f"file://{path}" for path in paths}
    failed = [path for path, row in rows.items() if row["error"]]
    assert [Path(path).name for path in failed] == ["bad.jpg"]
    assert "IMAGE is not an image" in rows[failed[0]]["error"]
    (somebody,) = [row for path, row in rows.items() if path.endswith("somebody.png")]
    assert len(somebody["persons"]) == 1
    assert len(somebody["persons"][0]["scores"]["pred"]) == 26
    assert not list(out.rglob("*.part"))


def test_a_worker_is_killed(start, folder, opencv_server, tmp_path, rays_own):
    before = asked(opencv_server)
    names = tmp_path / "names.parquet"
    pq.write_table(pa.table({"path": [f"file://{path}" for path in sorted(folder.iterdir())]}), names)
    held = HeldImage(folder / HELD)
    process = start(names)
    wait_for_shards(tmp_path / "out", 2, process)
    victims = ray_workers(process_family(process.pid))
    assert victims, "no worker found to kill"
    os.kill(victims[0], signal.SIGKILL)
    until(lambda: not ray_workers(victims[:1]))
    held.release()
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, stderr  # one image is none
    statistics = json.loads(stdout)
    assert {key: statistics[key] for key in ("total", "done_before", "pictures", "failed", "persons")} == {
        "total": IMAGES,
        "done_before": 0,
        "pictures": IMAGES,
        "failed": 1,
        "persons": 1,
    }
    check_all_there(tmp_path / "out", sorted(folder.iterdir()))
    first = 1  # the question which model there is, before the first image
    assert IMAGES <= asked(opencv_server) - before - first <= IMAGES + SHARD  # but for the shard that was lost
    assert "Traceback" not in stderr
    written = [path for folder in (rays_own, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert any("logs" in path.parts for path in written)
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


def test_all_is_killed_and_begun_again(start, folder, opencv_server, tmp_path):
    """From a Parquet file of names; one more has been added when it is begun again."""
    before = asked(opencv_server)
    out, names = tmp_path / "out", tmp_path / "names.parquet"
    paths = sorted(folder.iterdir())
    pq.write_table(pa.table({"path": [f"file://{path}" for path in paths[:-1]]}), names)
    held = HeldImage(folder / HELD)
    process = start(names)
    wait_for_shards(out, 3, process)
    workers = ray_workers(process_family(process.pid))
    assert workers
    process.kill()
    process.communicate()
    until(lambda: not ray_workers(workers))  # Ray ends what has lost its driver
    held.release()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("shard=*/part.parquet")}
    pq.write_table(pa.table({"path": [f"file://{path}" for path in paths]}), names)
    process = start(names)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, 1), stderr
    statistics = json.loads(stdout)
    assert statistics["done_before"] == SHARD * len(kept) >= 12
    assert statistics["total"] == IMAGES == statistics["done_before"] + statistics["pictures"]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    check_all_there(out, paths)
    first = 2  # of each run
    assert IMAGES <= asked(opencv_server) - before - first <= IMAGES + WORKERS * SHARD
    stdout, _ = start(names).communicate(timeout=PATIENCE)
    assert json.loads(stdout)["pictures"] == 0


def test_no_server(folder, tmp_path):
    command = [*BATCH, str(folder), "--output", str(tmp_path / "out"), "--url", "127.0.0.1:1", "--patience", "1"]
    result = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 3
    assert result.stderr.startswith("error: no server has answered for 1 s; the last said: no server at 127.0.0.1:1")
    assert "Traceback" not in result.stderr
