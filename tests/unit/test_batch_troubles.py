"""5,000 images and two servers that are killed, full, hang, fail and change: each is answered once, by one model."""

import contextlib
import json
import threading
import time
from collections import Counter

import grpc
import pandas as pd
import pytest

from cocoer_client.batch import command as batch
from cocoer_client.batch import ray_data, server
from cocoer_client.batch.worker import Recogniser
from cocoer_client.command import MODEL_CHANGED, SOME_FAILED
from cocoer_client.inputs import NOTHING
from tests.batch_fakes import MODEL, RESULT
from tests.fake_server import FakeServer, Refused
from tests.unit.test_batch_command import WithoutRay

IMAGES = 5000
KILLED, OVERLOADED, HANGING, FAILING, CHANGED = 500, 1500, 2200, 2800, 4000
"""Answers after which each begins."""
POISON = b"4321"
NOBODY = {**RESULT, "persons": []}


class Trouble:
    """Two servers, and what happens to them as answers are given."""

    def __init__(self):
        self.servers = [FakeServer(self.first), FakeServer(self.second)]
        self.count, self.answered, self.told = 0, Counter(), Counter()
        self.changes = True
        self.lock = threading.Lock()

    def counted(self, image, model=MODEL):
        if image == POISON:
            raise Refused(grpc.StatusCode.INTERNAL, "CUDA error")
        time.sleep(0.003)  # so that requests meet
        with self.lock:
            if image != NOTHING:
                self.count += 1
                self.answered[image] += 1
            if self.count == KILLED and not self.told["killed"]:
                self.told["killed"] += 1
                threading.Thread(target=self.restart).start()
        return {**NOBODY, "model": model}

    def restart(self):
        self.servers[0].kill()
        time.sleep(1)
        self.servers[0].start()

    def first(self, image, in_flight):
        """Is killed, hangs for a while, and has another model in the end."""
        if HANGING < self.count < FAILING and self.told["hung"] < 8:
            self.told["hung"] += 1
            time.sleep(1.5)
        if self.count > CHANGED and self.changes:
            self.told["changed"] += 1
            return self.counted(image, {**MODEL, "weights": "new"})
        return self.counted(image)

    def second(self, image, in_flight):
        """Takes two requests at once for a while, and fails for another."""
        if OVERLOADED < self.count < HANGING and in_flight > 2:
            self.told["full"] += 1
            raise Refused(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        if self.count > FAILING and self.told["failed"] < 12:
            self.told["failed"] += 1
            raise Refused(grpc.StatusCode.INTERNAL, "out of memory")
        return self.counted(image)


@pytest.fixture
def trouble(monkeypatch):
    made = Trouble()
    monkeypatch.setattr(server, "REST", 0.2)
    monkeypatch.setattr(server, "MAX_REST", 0.5)
    monkeypatch.setattr(ray_data, "start_ray", lambda args: WithoutRay())
    with contextlib.ExitStack() as stack:
        for one in made.servers:
            one.start()
            stack.callback(one.kill)
        yield made


def one_worker(ray, shards, work, workers, cpus_per_worker):
    """As ``run_shards``."""
    recogniser = Recogniser(work)
    for to_do in shards:
        yield recogniser(to_do.task)


def test_each_image_is_answered_once_by_one_model(trouble, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ray_data, "run_shards", one_worker)
    (tmp_path / "in").mkdir()
    for index in range(IMAGES):
        (tmp_path / "in" / f"{index:04d}.jpg").write_bytes(b"%04d" % index)
    urls = ",".join(one.url for one in trouble.servers)
    command = [str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--url", urls, "--json"]
    command += ["--timeout", "1", "--shard-size", "100", "--concurrency", "8", "--retries", "6"]

    assert batch.main(command) == MODEL_CHANGED
    assert "the server's model has changed: weights was w and is new" in capsys.readouterr().err
    frame = pd.read_parquet(tmp_path / "out")
    before = len(frame)
    assert CHANGED / 2 < before <= CHANGED, "all shards but the one in which it changed"

    trouble.changes = False
    assert batch.main(command) == SOME_FAILED
    told = json.loads(capsys.readouterr().out)
    assert (told["done_before"], told["pictures"], told["left"], told["failed"]) == (before, IMAGES - before - 1, 1, 0)
    (left,) = [json.loads(path.read_text()) for path in (tmp_path / "out" / "_cocoer").glob("left-*.json")]
    assert [entry["path"][-8:] for entry in left] == [POISON.decode() + ".jpg"]
    assert "CUDA error" in left[0]["error"]

    assert set(+trouble.told) == {"killed", "full", "hung", "failed", "changed"}
    frame = pd.read_parquet(tmp_path / "out")
    assert len(frame) == frame.path.nunique() == IMAGES - 1
    assert frame.error.isna().all()
    assert {model["weights"] for model in frame.model} == {"w"}
