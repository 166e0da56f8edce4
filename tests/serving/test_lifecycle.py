"""Stopping, dying and being damaged: what is lost, what readiness says, and what brings the server back."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from benchmarks.machine import process_family
from cocoer_client import CocoerClient
from serving.server import ServerFailed, TritonServer
from serving.supervisor import stubs
from tests import golden as gold
from tests.serving.test_load import Sender, check_scores
from tests.serving.test_served import as_persons
from tests.traffic import image_inputs


def test_sigterm_under_load_loses_no_accepted_request(repositories, expected, sample_bytes, tmp_path):
    inputs = image_inputs(sample_bytes, gold.person_rows(expected)[None, :1])
    with TritonServer(repositories("scrfd"), tmp_path / "log") as server:
        sender = Sender(server.url, inputs)
        for _ in range(50):
            sender.send()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert not server.is_ready()
        answers = sender.wait()
        assert [answer.status for answer in answers] == ["OK"] * 50
        check_scores(answers, expected)
        assert server.process.wait(timeout=30) == 0
    assert not list(Path("/dev/shm").glob(f"cocoer{server.process.pid}_*"))


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
    """Four clients that try again, against a server; everything they are told is kept."""

    def __init__(self, server, expected, sample_bytes):
        self.server, self.expected, self.sample = server, expected, sample_bytes
        self.persons = as_persons(gold.person_rows(self.expected)[:1])
        self.stop = threading.Event()
        self.answered, self.lost, self.readiness = [], [], []
        self.threads = [threading.Thread(target=self._ask) for _ in range(4)]
        self.threads.append(threading.Thread(target=self._look))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        time.sleep(2)
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _ask(self):
        with CocoerClient(self.server.url, timeout=60, retries=40) as client:
            while not self.stop.is_set():
                try:
                    result = client.infer_raw(self.sample, self.persons)
                except Exception as error:
                    self.lost.append(repr(error))
                    continue
                p = np.array(result["persons"][0]["scores"]["pred"])
                assert np.abs(np.log(p / (1 - p)) - self.expected["pred"][0]).max() < 2e-3
                self.answered.append(time.monotonic())

    def _look(self):
        while not self.stop.is_set():
            self.readiness.append((time.monotonic(), self.server.is_ready()))
            time.sleep(0.1)

    def kill(self, model):
        """Kill a process, and wait until all is as before; seconds until not ready, ready again, and an answer."""
        os.kill(pid_of(self.server, model), signal.SIGKILL)
        killed = time.monotonic()
        deadline = killed + 60
        while time.monotonic() < deadline:
            time.sleep(0.2)
            seen = [(moment - killed, ready) for moment, ready in self.readiness if moment > killed]
            down = next((moment for moment, ready in seen if not ready), None)
            up = next((moment for moment, ready in seen if down is not None and moment > down and ready), None)
            answer = next((m - killed for m in self.answered if up is not None and m - killed > up), None)
            if answer is not None:
                time.sleep(2)
                return down, up, answer
        raise AssertionError(f"not back after a minute: {self.server.log_tail()}")


def test_killed_processes_come_back_and_patient_clients_lose_nothing(repositories, expected, sample_bytes, tmp_path):
    """The BLS, a model behind it, Triton itself: readiness turns false, the server is started anew, nobody is lost."""
    with (
        TritonServer(repositories("scrfd"), tmp_path / "log") as server,
        Loaded(server, expected, sample_bytes) as load,
    ):
        for model in ("cocoer", "head_encoder", ""):
            down, up, answer = load.kill(model)
            print(
                f"killed {model or 'tritonserver'}: not ready after {down:.1f} s, ready again after {up:.1f} s, "
                f"answers after {answer:.1f} s"
            )
            assert down < 8
            assert up < 40
        load.stop.set()
        assert load.lost == []
        log = (tmp_path / "log").read_text()
        assert "tritonserver: the process of model cocoer has died; starting the server anew (1 of 3)" in log
        assert "tritonserver: the process of model head_encoder has died; starting the server anew (2 of 3)" in log
        assert "tritonserver: tritonserver was killed by signal 9; starting the server anew (3 of 3)" in log
        for thread in load.threads:
            thread.join()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0
    assert not list(Path("/dev/shm").glob(f"cocoer{server.process.pid}_*"))


def test_without_retries_the_loss_is_bounded_and_told(repositories, expected, sample_bytes, tmp_path):
    """What happens to requests on their way when a model behind dies: UNAVAILABLE, quickly, or an answer."""
    inputs = image_inputs(sample_bytes, gold.person_rows(expected)[None, :1])
    with TritonServer(repositories("scrfd"), tmp_path / "log") as server:
        sender = Sender(server.url, inputs, client_timeout=30)
        for _ in range(20):
            sender.send()
        time.sleep(0.5)
        os.kill(pid_of(server, "body_encoder"), signal.SIGKILL)
        statuses = [(answer.status, answer.seconds) for answer in sender.wait()]
        failed = [status for status, _ in statuses if status != "OK"]
        print(f"killed body_encoder: {len(statuses) - len(failed)} of 20 on their way answered, {len(failed)} told")
        assert set(failed) <= {"StatusCode.UNAVAILABLE"}
        assert max(seconds for _, seconds in statuses) < 15


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


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut_short, "head_encoder/1/model.onnx"),
        (swapped, "head_encoder/1/model.onnx is not the file of this build"),
        (unreadable, "fusion/1/model.onnx"),
        (of_another_build, "vi_head/config.pbtxt is not the file of this build"),
        (wrong_labels, "cocoer/1/labels.txt is not the file of this build"),
        (senseless_limit, "max_pixels must be a whole number above 0, got 'unlimited'"),
        (damaged_manifest, "cocoer/1/build.json"),
        (plan_of_another_machine, "Build them here: python export/build_engines.py --backend tensorrt"),
    ],
)
def test_a_damaged_repository_is_not_served(damage, told, repositories, tmp_path):
    """The server says which file and why, is never ready, and ends with an error."""
    shutil.copytree(repositories("scrfd"), tmp_path / "repository", copy_function=os.link)
    damage(tmp_path / "repository")
    with (
        pytest.raises(ServerFailed, match="ended with code 1"),
        TritonServer(tmp_path / "repository", tmp_path / "log"),
    ):
        pass
    assert told in (tmp_path / "log").read_text()


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
