"""Builds beside a server that is asked all the while: killed, failed, published, taken back; no answer is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from cocoer_client import CocoerClient
from serving.server import TritonServer
from tests.conftest import PROJECT, SAMPLE, run_python
from tests.waiting import PATIENCE, until

BUILD = "export/build_engines.py"


@contextmanager
def asked_all_the_while(server):
    """Ask for the sample again and again; the steps that the answers were made with, or the error of one."""
    answers: list[float | str] = []
    done = threading.Event()

    def ask():
        with CocoerClient(server.url, timeout=PATIENCE, retries=0) as client:
            while not done.is_set():
                try:
                    answers.append(client.infer(SAMPLE).model.coordination_step)
                except Exception as error:
                    answers.append(repr(error))
                done.wait(0.2)  # the builds are to get on too

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        done.set()
        thread.join()


@pytest.mark.needs("checkout")
def test_builds_beside_a_server(repositories, tiny_checkpoints, tmp_path):
    repository = tmp_path / "models"
    shutil.copytree(repositories("opencv"), repository, copy_function=os.link)
    common = ["--checkpoints", tiny_checkpoints, "--repository", repository, "--detectors", "opencv"]
    other = [*common, "--coordination-step", "0.1"]

    def published():
        return json.loads((repository / "cocoer" / "1" / "build.json").read_text())["coordination_step"]

    with TritonServer(repository, tmp_path / "log") as server, asked_all_the_while(server) as answers:
        until(lambda: answers)
        command = [sys.executable, BUILD, *map(str, other)]
        with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True) as process:
            assert any("building fusion" in line for line in process.stderr)
            second = run_python(BUILD, *other)
            assert second.returncode == 2
            assert f"{repository} is being written by process {process.pid} on " in second.stderr
            process.send_signal(signal.SIGKILL)
        assert published() == 1

        run = run_python(BUILD, *other, "--json")
        assert run.returncode == 0, run.stderr
        assert published() == 0.1
        assert [row["name"] for row in json.loads(run.stdout)["engines"] if row["status"] == "built"] == ["fusion"]

        failed = run_python(BUILD, *common, "--tolerance", "vi_head=0")
        assert failed.returncode == 1
        assert f"{repository} was left as it was" in failed.stderr
        assert published() == 0.1
        with TritonServer(repository, tmp_path / "log of another") as upgraded, CocoerClient(upgraded.url) as client:
            assert client.infer(SAMPLE).model.coordination_step == 0.1

        assert run_python(BUILD, "--repository", repository, "--rollback").returncode == 0
        assert published() == 1
        asked = len(answers)
        until(lambda: len(answers) > asked)
    assert set(answers) == {1.0}
