"""Stopping, dying and being damaged: what is lost, what readiness says, and what brings the server back."""

import importlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from benchmarks.machine import process_family
from cocoer_bls.inputs import MAX_BATCH_PERSONS
from cocoer_client import CocoerClient
from export.publishing.configs import MAX_QUEUE
from serving.background import ServerFailed
from serving.drain import MAX_DRAIN
from serving.flags import PROBE_VARIABLE
from serving.processes import stubs
from serving.server import TritonServer
from tests import golden as gold
from tests.metrics import key, scrape
from tests.serving.test_served import as_persons
from tests.traffic import WAITING, Sender, check_scores, image_inputs
from tests.waiting import PATIENCE, until


def accepted(server, sender):
    """How many of the sender's requests, the only ones there are, the server has taken: done, queued, or running."""
    done = sum(bool(answer.status) for answer in sender.answers)
    found = scrape(server)
    return done + found[WAITING] + found[key("cocoer_requests_running")]


def send_accepted(server, inputs, count, **options):
    """A sender whose requests are all with the server, and not all answered."""
    sender = Sender(server.url, inputs, **options)
    sender.send(count)
    until(lambda: accepted(server, sender) >= count)
    assert not all(answer.status for answer in sender.answers)
    return sender


def seconds_of_one(server, inputs):
    """What a request takes alone, the slower of two."""
    answers = []
    for _ in range(3):  # the first warms up
        sender = Sender(server.url, inputs)
        sender.send()
        answers += sender.wait(PATIENCE)
    return max(answer.seconds for answer in answers[1:])


def something_to_do(server, expected, sample_bytes):
    """A request that takes this server a tenth of a second or more, and what it takes alone."""
    rows = gold.person_rows(expected)
    for persons in (1, 8, MAX_BATCH_PERSONS):
        inputs = image_inputs(sample_bytes, np.resize(rows, (1, persons, 8)))
        if (seconds := seconds_of_one(server, inputs)) > 0.1:
            break
    return inputs, seconds


def shared_memory_of(server):
    return list(Path("/dev/shm").glob(f"cocoer{server.process.pid}_*"))


def test_sigterm_under_load_loses_no_accepted_request(repositories, expected, sample_bytes, tmp_path):
    """Watched by probes, as in production."""
    with TritonServer(repositories("scrfd"), tmp_path / "log", environment={PROBE_VARIABLE: "1"}) as server:
        inputs, alone = something_to_do(server, expected, sample_bytes)
        # As many as this machine, today, finishes in half the time that a server may take to stop.
        count = int(min(MAX_QUEUE - 4, max(4, MAX_DRAIN / 2 / alone)))
        sender = send_accepted(server, inputs, count)
        assert shared_memory_of(server)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not server.is_ready())
        answers = sender.wait(PATIENCE)
        assert [answer.status for answer in answers] == ["OK"] * count
        check_scores(answers, expected["pred"][0])
        assert server.process.wait(PATIENCE) == 0
    assert not shared_memory_of(server)


def pid_of(server, model):
    """A process of the model; of no model: Triton's own."""
    for parent in process_family(server.process.pid):
        for pid, (_, name) in stubs(parent).items():
            if name == model:
                return pid
            if not model:
                return parent
    raise AssertionError(f"no process of {model}")


class Loaded:
    """Four clients that try again as by default, against a server; everything they are told is kept."""

    def __init__(self, server, expected, sample_bytes):
        self.server, self.expected, self.sample = server, expected, sample_bytes
        self.persons = as_persons(gold.person_rows(self.expected)[:1])
        self.stop = threading.Event()
        self.answered, self.lost, self.readiness = [[] for _ in range(4)], [], []
        self.slowest = 0.0
        self.threads = [threading.Thread(target=self._ask, args=(answered,)) for answered in self.answered]
        self.threads.append(threading.Thread(target=self._look))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.wait_for_all()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def wait_for_all(self):
        """Until each client has had two more answers."""
        before = [len(answered) for answered in self.answered]
        until(lambda: all(len(one) > count + 1 for one, count in zip(self.answered, before)), self.server.log_tail)

    def _ask(self, answered):
        with CocoerClient(self.server.url, timeout=PATIENCE) as client:
            while not self.stop.is_set():
                begun = time.monotonic()
                try:
                    result = client.infer_raw(self.sample, self.persons)
                    logits = gold.logits_of(result["persons"][0]["scores"]["pred"])
                    assert np.abs(logits - self.expected["pred"][0]).max() < gold.TOLERANCE
                except Exception as error:
                    self.lost.append(repr(error))
                    continue
                answered.append(time.monotonic())
                self.slowest = max(self.slowest, answered[-1] - begun)

    def _look(self):
        while not self.stop.is_set():
            self.readiness.append((time.monotonic(), self.server.is_ready()))
            time.sleep(0.1)

    def kill(self, model):
        """Kill a process, and wait until all is as before; seconds until not ready, and until ready again."""
        os.kill(pid_of(self.server, model), signal.SIGKILL)
        killed = time.monotonic()

        def changes():
            seen = [(moment - killed, ready) for moment, ready in self.readiness if moment > killed]
            down = next((moment for moment, ready in seen if not ready), None)
            up = next((moment for moment, ready in seen if down is not None and moment > down and ready), None)
            return (down, up) if up is not None else None

        down, up = until(changes, self.server.log_tail)
        self.wait_for_all()
        return down, up


def test_killed_processes_come_back_and_patient_clients_lose_nothing(
    repositories, expected, sample_bytes, tmp_path, model_processes
):
    """The BLS, a model behind it, Triton itself: readiness turns false, the server is started anew, nobody is lost."""
    killed = ("cocoer", "head_encoder", "") if model_processes else ("cocoer", "")
    with TritonServer(repositories("scrfd"), tmp_path / "log") as server:
        with Loaded(server, expected, sample_bytes) as load:
            for model in killed:
                down, up = load.kill(model)
                print(f"killed {model or 'tritonserver'}: not ready after {down:.1f} s, ready again after {up:.1f} s")
            load.end()
            assert load.lost == []
            print(f"the slowest answer took {load.slowest:.1f} s")
        log = (tmp_path / "log").read_text()
        for number, model in enumerate(killed, start=1):
            what = f"the process of model {model} has died" if model else "tritonserver was killed by signal 9"
            assert f"tritonserver: {what}; starting the server anew ({number} of 3)" in log
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
    assert not shared_memory_of(server)


@pytest.mark.needs("model_processes")
def test_without_retries_the_loss_is_bounded_and_told(repositories, expected, sample_bytes, tmp_path):
    """What happens to requests on their way when a model behind dies: UNAVAILABLE, or an answer; all before the server
    is back."""
    with TritonServer(repositories("scrfd"), tmp_path / "log") as server:
        inputs, _ = something_to_do(server, expected, sample_bytes)
        sender = send_accepted(server, inputs, 20, client_timeout=PATIENCE)
        os.kill(pid_of(server, "body_encoder"), signal.SIGKILL)
        until(lambda: not server.is_ready())
        until(server.is_ready)
        back = time.monotonic()
        answers = sender.wait(PATIENCE)
        failed = [answer.status for answer in answers if answer.status != "OK"]
        print(f"killed body_encoder: {20 - len(failed)} of 20 on their way answered, {len(failed)} told")
        assert set(failed) <= {"StatusCode.UNAVAILABLE"}
        assert max(answer.came for answer in answers) < back


def rewrite(path, changes):
    """Replace texts in a file that shares its content with others by a hard link."""
    text = path.read_text()
    path.unlink()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def cut_short(repository):
    engine = repository / "head_encoder" / "1" / "model.onnx"
    data = engine.read_bytes()
    engine.unlink()
    engine.write_bytes(data[: len(data) // 2])


def swapped(repository):
    one, other = (repository / name / "1" / "model.onnx" for name in ("head_encoder", "body_encoder"))
    one.rename(repository / "aside")
    other.rename(one)
    (repository / "aside").rename(other)


def unreadable(repository):
    engine = repository / "fusion" / "1" / "model.onnx"
    engine.unlink()
    engine.mkdir()


def of_another_build(repository):
    rewrite(repository / "vi_head" / "config.pbtxt", {"max_batch_size: 8": "max_batch_size: 4"})


def wrong_labels(repository):
    labels = repository / "cocoer" / "1" / "labels.txt"
    rewrite(labels, {labels.read_text().splitlines(keepends=True)[-1]: ""})


def senseless_limit(repository):
    rewrite(repository / "cocoer" / "config.pbtxt", {'"50000000"': '"unlimited"'})


def damaged_manifest(repository):
    build = repository / "cocoer" / "1" / "build.json"
    build.unlink()
    build.write_text("{")


def plan_of_another_machine(repository):
    """As after a build with --backend tensorrt, where there is a TensorRT of another version or none."""
    build = repository / "cocoer" / "1" / "build.json"
    rewrite(build, {'"plans": []': '"plans": ["fusion"]'})
    sidecar = {"tensorrt": "10.13.3.9", "version_compatible": False, "compute_capability": "9.0"}
    sidecar |= {"hardware_compatibility": "none", "gpu": "NVIDIA H100"}
    (repository / "fusion" / "1" / "model.plan.json").write_text(json.dumps(sidecar))


DAMAGES = {
    cut_short: "head_encoder/1/model.onnx is not the file of this build",
    swapped: "head_encoder/1/model.onnx is not the file of this build",
    unreadable: "fusion/1/model.onnx can't be read (Is a directory)",
    of_another_build: "vi_head/config.pbtxt is not the file of this build",
    wrong_labels: "cocoer/1/labels.txt is not the file of this build",
    senseless_limit: "max_pixels must be a whole number above 0, got 'unlimited'",
    damaged_manifest: "cocoer/1/build.json can't be read",
    plan_of_another_machine: "Build them here: python export/build_engines.py --backend tensorrt",
}
"""What is done to a repository, and what is said of it."""


@pytest.fixture
def damaged(repositories, tmp_path, request):
    """A repository of its own, with one damage."""
    shutil.copytree(repositories("scrfd"), tmp_path / "repository", copy_function=os.link)
    request.param(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def bls(monkeypatch):
    """The served model's module, with as much of Triton as its refusals need."""
    logger = SimpleNamespace(log_warn=print, log_error=print, log_info=print)
    triton = SimpleNamespace(TritonModelException=type("TritonModelException", (Exception,), {}), Logger=logger)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton)
    monkeypatch.delitem(sys.modules, "cocoer_bls.model", raising=False)
    return importlib.import_module("cocoer_bls.model")


@pytest.mark.parametrize(
    ("damaged", "told"), DAMAGES.items(), ids=lambda it: getattr(it, "__name__", ""), indirect=["damaged"]
)
def test_a_damaged_repository_is_refused(damaged, told, bls):
    """The model says which file and why, when Triton loads it."""
    config = text_format.Parse((damaged / "cocoer" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    arguments = {
        "model_config": json.dumps(json_format.MessageToDict(config, preserving_proto_field_name=True)),
        "model_repository": str(damaged / "cocoer"),
        "model_version": "1",
        "model_instance_name": "cocoer_0_0",
    }
    with pytest.raises(bls.pb_utils.TritonModelException) as caught:
        bls.TritonPythonModel().initialize(arguments)
    assert told in str(caught.value)


@pytest.mark.parametrize("damaged", [swapped, senseless_limit], indirect=True)
def test_a_refused_repository_is_not_served(damaged, request, tmp_path):
    """The server says so too, is never ready, and ends with an error: for what all models are, and for its own."""
    told = DAMAGES[request.node.callspec.params["damaged"]]
    with (
        pytest.raises(ServerFailed, match="ended with code 1"),
        TritonServer(damaged, tmp_path / "log", timeout=PATIENCE),
    ):
        pass
    assert told in (tmp_path / "log").read_text()


def test_the_code_that_is_served_is_the_builds_own(repositories, sample_bytes, tmp_path):
    """Not what the directory has in which the server was started, as a checkout of another version would."""
    (tmp_path / "cocoer_bls").mkdir()
    (tmp_path / "cocoer_bls" / "__init__.py").write_text("raise RuntimeError('of another version')")
    server = TritonServer(repositories("scrfd"), tmp_path / "log")
    server.directory = tmp_path
    with server, CocoerClient(server.url) as client:
        assert client.infer(sample_bytes).model.synthetic


def test_a_tolerance_set_by_hand_is_told(repositories, tmp_path):
    """Served as any other, with a warning that names the model and its error."""
    shutil.copytree(repositories("scrfd"), tmp_path / "repository", copy_function=os.link)
    told = '"tolerances": {"fusion": {"tolerance": 0.01, "default": 0.001, "error": 0.0042}}'
    rewrite(tmp_path / "repository" / "cocoer" / "1" / "build.json", {'"tolerances": {}': told})
    with TritonServer(tmp_path / "repository", tmp_path / "log", timeout=PATIENCE):
        pass
    log = (tmp_path / "log").read_text().splitlines()
    warnings = [line for line in log if "fusion was accepted by a tolerance set by hand: 0.01 instead of 0.001" in line]
    assert warnings
    assert all(line.startswith("W") and "its error against its reference is 0.0042" in line for line in warnings)


def test_operators_may_tune(repositories, expected, sample_bytes, tmp_path):
    """Instances, queues and limits are not the build's; limits hold."""
    shutil.copytree(repositories("scrfd"), tmp_path / "repository", copy_function=os.link)
    changes = {
        "count: 2": "count: 1",
        "max_queue_size: 64": "max_queue_size: 7",
        '"50000000"': '"100000"',
        '"JPEG,PNG,WEBP,BMP"': '"PNG"',
    }
    rewrite(tmp_path / "repository" / "cocoer" / "config.pbtxt", changes)
    with TritonServer(tmp_path / "repository", tmp_path / "log") as server:
        with grpcclient.InferenceServerClient(server.url) as triton:
            for data, message in (
                (sample_bytes, "IMAGE is 512x512, more than the allowed 100000 pixels"),
                (b"\xff\xd8", "IMAGE is not an image in PNG format"),
            ):
                with pytest.raises(InferenceServerException, match=message):
                    triton.infer("cocoer", image_inputs(data, None))
        sender = Sender(server.url, image_inputs(b"", None))
        sender.send()
        assert "PNG file" in sender.wait()[0].message
