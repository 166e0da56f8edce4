"""Servers that are up and don't answer, under a real Triton: noticed, and started anew."""

import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

import cocoer_bls
from serving.endpoints import REQUEST_ID, Endpoints, Outcome
from serving.flags import HEALTH_VARIABLE, PROBE_VARIABLE
from serving.probe import FAILURES
from serving.server import TritonServer, free_ports
from tests.metrics import key, scrape
from tests.serving.test_lifecycle import pid_of
from tests.unit.test_health import asked
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.needs("own_server")

CONFIG = """
name: "cocoer"
backend: "python"
max_batch_size: 8
input [
  { name: "IMAGE" data_type: TYPE_STRING dims: [1] },
  { name: "PERSONS" data_type: TYPE_FP32 dims: [-1, 8] optional: true }
]
output { name: "RESULT" data_type: TYPE_STRING dims: [1] }
instance_group { kind: KIND_CPU }
"""
MODEL = """
import os
import time
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils
from cocoer_bls.metrics import Metrics

MOOD = Path({mood!r})

class TritonPythonModel:
    def initialize(self, args):
        self.metrics = Metrics(pb_utils.MetricFamily, args["model_instance_name"])

    def execute(self, requests):
        with self.metrics.running(len(requests)):
            return self.answer(requests)

    def answer(self, requests):
        if MOOD.read_text() == "one hangs":
            MOOD.write_text("answers")
            time.sleep(1_000_000)
        if MOOD.read_text() == "ends":
            os._exit(0)
        if MOOD.read_text() == "hangs":
            time.sleep(1_000_000)
        if MOOD.read_text() == "fails":
            error = pb_utils.TritonError("CUDA error: an illegal memory access was encountered")
            return [pb_utils.InferenceResponse(error=error) for _ in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("RESULT", self.results(request))]) for request in requests]

    def results(self, request):
        images = len(pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy())
        return np.array([["{{}}"]] * images, dtype=np.object_)
"""


@pytest.fixture
def moody(tmp_path):
    """A repository whose ``cocoer`` does what a file says: answers, hangs, fails or ends; and the file."""
    mood = tmp_path / "mood"
    mood.write_text("answers")
    version = tmp_path / "repository" / "cocoer" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    shutil.copytree(Path(cocoer_bls.__file__).parent, version / "cocoer_bls", ignore=shutil.ignore_patterns("__py*"))
    (version / "model.py").write_text(MODEL.format(mood=str(mood)))
    return version.parent.parent, mood


def in_log(server, text):
    return text in server.log.read_text()


def test_a_server_that_does_not_answer_is_started_anew(moody, tmp_path):
    repository, mood = moody
    health = ("127.0.0.1", *free_ports(1))
    environment = {PROBE_VARIABLE: "1", HEALTH_VARIABLE: "{}:{}".format(*health)}
    with TritonServer(repository, tmp_path / "log", environment=environment) as server:
        until(lambda: asked(health, "/ready") == (200, "ready\n"), server.log_tail)
        for number, how in enumerate(("hangs", "fails"), start=1):
            mood.write_text(how)
            until(lambda: "cocoer does not answer" in asked(health, "/ready")[1], server.log_tail)
            assert server.is_ready(), "by what Triton says"
            told = f"starting the server anew ({number} of 3)"
            until(partial(in_log, server, told), server.log_tail)
            mood.write_text("answers")
            until(lambda: asked(health, "/ready")[0] == 200, server.log_tail)
            assert asked(health, "/live")[0] == 200
        mood.write_text("ends")  # os._exit(0) in the model: with the next probe
        until(partial(in_log, server, "starting the server anew (3 of 3)"), server.log_tail)
        mood.write_text("answers")
        until(lambda: asked(health, "/ready")[0] == 200, server.log_tail)
        log = server.log.read_text()
    assert "the process of model cocoer has died; starting the server anew (3 of 3)" in log
    assert "cocoer does not answer (no answer within 3 s (timed out)); starting the server anew (1 of 3)" in log
    assert "cocoer does not answer (HTTP 500: " in log
    assert "an illegal memory access was encountered" in log
    assert log.count("was asked whether it answers: no answer within 3 s") == FAILURES, "none of a server that stops"
    assert server.process.returncode == 0


def test_restarts_leave_nothing(moody, request, tmp_path):
    """Three starts, with --full twenty; one is asked in between, one never: no shared memory, no temporary files."""
    (tmp_path / "tmp").mkdir()
    starts = 20 if request.config.getoption("--full") else 3
    for number in range(starts):
        with TritonServer(moody[0], tmp_path / "log", environment={"TMPDIR": str(tmp_path / "tmp")}) as server:
            if number % 2:
                assert Endpoints((server.host, server.http_port), None).ask(PATIENCE)[0] is Outcome.ANSWERED
            regions = list(Path("/dev/shm").glob(f"cocoer{server.process.pid}_*"))
            assert regions
        assert server.process.returncode == 0
        assert not [region for region in regions if region.exists()]
        assert not list((tmp_path / "tmp").iterdir())


@pytest.fixture
def twins(moody):
    """The same with two instances."""
    config = moody[0] / "cocoer" / "config.pbtxt"
    config.write_text(config.read_text().replace("{ kind", "{ count: 2 kind"))
    return moody


def test_one_of_two_instances_is_stopped(twins, tmp_path):
    """The other one goes on, and answers whoever asks."""
    with TritonServer(twins[0], tmp_path / "log") as server:
        os.kill(pid_of(server, "cocoer"), signal.SIGSTOP)
        told = "a process of cocoer is stopped; starting the server anew (1 of 3)"
        until(partial(in_log, server, told), server.log_tail)
        until(server.is_ready, server.log_tail)


def test_one_of_two_instances_hangs(twins, tmp_path):
    """Running, and never done: the other one answers every probe, and all the same it is noticed."""
    repository, mood = twins
    with TritonServer(repository, tmp_path / "log", environment={PROBE_VARIABLE: "0.3"}) as server:
        mood.write_text("one hangs")
        told = "has not moved for 2.7 s, while others answer; starting the server anew (1 of 3)"
        until(partial(in_log, server, told), server.log_tail)
        until(server.is_ready, server.log_tail)
        assert mood.read_text() == "answers"


def test_probes_are_counted_apart(repositories, tmp_path):
    with TritonServer(repositories("scrfd"), tmp_path / "log", environment={PROBE_VARIABLE: "0.2"}) as server:
        until(lambda: scrape(server)[key("cocoer_probes_total", outcome="answered")] >= 4, server.log_tail)
        seen = scrape(server)
        assert seen[key("cocoer_probes_total", outcome="failed")] == 0
        assert seen[key("cocoer_images_total")] == seen[key("cocoer_persons_total")] == 0
        # Of two images each: the whole path.
        assert seen[key("nv_inference_request_success", model="fusion", version="1")] >= 2
        assert seen[key("nv_inference_request_success", model="face_detector", version="1")] >= 2
        assert REQUEST_ID not in server.log.read_text(), "nothing went wrong"
