"""``make web`` as a user has it: one command, a page, an answer, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from serving.server import free_ports
from tests.conftest import PROJECT, SAMPLE
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.needs("checkout")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_one_command_a_page_and_an_answer(repositories, tmp_path):
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "serving.web", "--port", str(port)]
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            [*command, "--repository", str(repositories("scrfd"))],
            cwd=PROJECT,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:

        def address() -> str | None:
            assert process.poll() is None, output.read_text()
            found = re.search(r"^Open (http://\S+) in a browser", output.read_text(), re.MULTILINE)
            return found[1] if found else None

        url = until(address, output.read_text)
        assert url == f"http://127.0.0.1:{port}"
        page = requests.get(f"{url}/", timeout=60)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        persons = '[{"body": [84, 20, 363, 512]}]'
        answer = requests.post(
            f"{url}/v1/recognise", files={"image": SAMPLE.read_bytes()}, data={"persons": persons}, timeout=120
        )
        assert answer.status_code == 200, answer.text
        assert [person["body_box"] for person in answer.json()["persons"]] == [[84, 20, 363, 512]]

        again = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE)
        assert again.returncode == 1
        assert f"port {port} of 127.0.0.1 is in use; choose another: make web PORT=" in again.stderr

        started = children(process.pid)
        assert len(started) == 2
        # Ctrl-C in a terminal goes to the whole group: the two are not in it, and are stopped one after the other.
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 0, output.read_text()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
    assert output.read_text().endswith("Stopping; what runs is finished first ...\nStopped.\n")
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/healthz", timeout=10)
