"""A gateway's life: it starts without Triton, follows it, takes new keys, has several processes, and ends politely.

And what it leaves in logs and lists of processes.
"""

import contextlib
import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from cocoer_client.web.guard import EXPLAIN_POLICY
from cocoer_client.web.keys import make_key
from tests.asgi import NOWHERE
from tests.conftest import SAMPLE
from tests.fake_server import FakeServer
from tests.gateway import gateway
from tests.unit.test_web_metrics import samples
from tests.waiting import until

pytestmark = pytest.mark.needs("this_machine")

KEY, NEW_KEY, SESAME = "alice-" + "a" * 20, "bob-" + "b" * 20, "sesame-of-the-proxy"


class Slow:
    """Answers once it may."""

    def __init__(self):
        self.may = threading.Event()

    def __call__(self, image, now):
        if image == b"slow":
            assert self.may.wait(600)
        return {"persons": []}


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def triton(slow):
    server = FakeServer(slow)
    server.start()
    yield server
    slow.may.set()
    server.kill()


@pytest.fixture
def started(triton, tmp_path):
    """Starts gateways in front of ``triton``."""
    with contextlib.ExitStack() as stack:

        def start(*arguments, url=triton.url):
            return stack.enter_context(gateway(url, tmp_path / "log", *arguments))

        yield start


def status(running, path="/readyz", **headers):
    """Of an answer on a connection of its own; 0: there is none."""
    try:
        return requests.get(f"{running.url}{path}", headers={"Connection": "close", **headers}, timeout=60).status_code
    except requests.ConnectionError:
        return 0


def ask(running, image=b"image"):
    return requests.post(f"{running.url}/v1/recognise", data=image, timeout=600)


@contextlib.contextmanager
def a_running_request(running, triton):
    """Its answer, as a future."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, running, b"slow")
        until(lambda: triton.in_flight == 1, running.log.read_text)
        yield answer


def children(pid):
    """Processes that serve, of a gateway that has several; those that have ended have no command line any more."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def is_there(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_triton_comes_and_goes(started, triton):
    triton.kill()
    running = started("--retries", "0")
    assert status(running, "/healthz") == 200
    assert status(running) == 503
    assert ask(running).status_code == 503
    until(lambda: "is not ready yet; /readyz says 503 until it is" in running.log.read_text())
    triton.start()
    until(lambda: status(running) == 200, running.log.read_text)
    assert ask(running).status_code == 200
    triton.kill()
    until(lambda: status(running) == 503, running.log.read_text)
    triton.start()
    until(lambda: status(running) == 200, running.log.read_text)


@pytest.mark.parametrize(("number", "processes"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_what_runs_is_finished(started, triton, slow, number, processes):
    running = started("--processes", str(processes))
    with a_running_request(running, triton) as answer:
        running.process.send_signal(number)
        until(lambda: status(running, "/healthz") == 0)
        assert running.process.poll() is None
        slow.may.set()
        assert answer.result().json() == {"persons": []}
    assert running.process.wait(600) == 0
    assert "Traceback" not in running.log.read_text()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_signal_ends_it_at_once(started, triton, processes):
    """First it lingers, for load balancers: it says that it is not ready, and takes requests."""
    running = started("--processes", str(processes), "--linger", "600")
    workers = children(running.process.pid)
    assert len(workers) == (processes if processes > 1 else 0)
    with a_running_request(running, triton) as answer:
        running.process.terminate()
        until(lambda: status(running) == 503, running.log.read_text)
        assert ask(running).status_code == 200
        running.process.terminate()
        assert running.process.wait(600) == 128 + signal.SIGTERM
        assert (answer.result().status_code, answer.result().json()["reason"]) == (503, "unavailable")
    until(lambda: not any(map(is_there, workers)))


def test_ctrl_c_reaches_all_processes_and_counts_once(started, triton, slow):
    running = started("--processes", "2")
    with a_running_request(running, triton) as answer:
        for pid in (*children(running.process.pid), running.process.pid):
            os.kill(pid, signal.SIGINT)
        until(lambda: status(running, "/healthz") == 0)
        slow.may.set()
        assert answer.result().status_code == 200
    assert running.process.wait(600) == 0


def test_processes(started, monkeypatch, tmp_path):
    """They share a port and add up their figures; one that dies is replaced; nothing is left of them."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    running = started("--processes", "2", "--log-format", "json")
    first, second = children(running.process.pid)
    for _ in range(20):
        assert ask(running).status_code == 200

    def figures():
        return samples(requests.get(f"{running.url}/metrics", timeout=60).text)

    assert figures()["cocoer_web_requests_total", "/v1/recognise", "", "200"] == 20
    os.kill(first, signal.SIGKILL)
    until(lambda: "another takes its place" in running.log.read_text())
    until(lambda: len(children(running.process.pid)) == 2, running.log.read_text)
    assert second in children(running.process.pid)
    assert ask(running).status_code == 200
    assert figures()["cocoer_web_requests_total", "/v1/recognise", "", "200"] == 21, "counts don't go back"
    assert figures()["cocoer_web_requests_in_flight",] == 1
    running.process.terminate()
    assert running.process.wait(600) == 0
    assert list((tmp_path / "temporary").iterdir()) == []


def test_processes_end_with_their_parent(started):
    running = started("--processes", "2")
    workers = children(running.process.pid)
    running.process.kill()
    until(lambda: not any(map(is_there, workers)), running.log.read_text)
    assert status(running, "/healthz") == 0


def test_keys_may_change(started, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"alice {KEY}\n")
    running = started("--keys", str(keys), url=NOWHERE)
    assert status(running, "/v1/model") == 401
    assert status(running, "/v1/model", Authorization=f"Bearer {KEY}") == 503, "let in, and nobody is there"
    _, line = make_key("bob")
    keys.write_text(f"{line}\nbob {NEW_KEY}\n")
    until(lambda: status(running, "/v1/model", **{"X-API-Key": NEW_KEY}) == 503)
    assert status(running, "/v1/model", Authorization=f"Bearer {KEY}") == 401
    keys.write_text("bob\n")

    def is_told():
        assert status(running, "/v1/model", **{"X-API-Key": NEW_KEY}) == 503
        return "the keys from before are still used" in running.log.read_text()

    until(is_told)


def test_no_secret_is_seen_by_others(started, tmp_path):
    """Neither in the list of processes, nor in their environment, nor in the log."""
    for name, content in (("keys", f"alice {KEY}\n"), ("headers", f"authorization: {SESAME}\n")):
        (tmp_path / name).write_text(content)
    arguments = ("--keys", tmp_path / "keys", "--header-file", tmp_path / "headers", "--processes", "2")
    running = started(*map(str, arguments), "--log-level", "debug")
    assert ask(running).status_code == 401
    assert status(running, f"/v1/model?key={KEY}", **{"X-API-Key": KEY + "x"}) == 401
    assert status(running, "/nothing", Authorization=f"Bearer {KEY}") == 404
    seen = running.log.read_bytes()
    for pid in (running.process.pid, *children(running.process.pid)):
        for about in ("cmdline", "environ"):
            seen += Path(f"/proc/{pid}/{about}").read_bytes()
    for secret in (KEY, SESAME):
        assert secret.encode() not in seen


def test_a_request_has_one_id_in_all_logs(web, server):
    """And no log has more of it than that."""
    name = "a-name-of-a-file"
    refused = requests.post(
        f"{web.url}/v1/recognise?min_score=0.4321",
        files={"image": (f"{name}.png", b"no image")},
        headers={"X-Request-Id": "life-1"},
        timeout=600,
    )
    assert (refused.status_code, refused.headers["X-Request-Id"]) == (415, "life-1")
    assert refused.json()["request_id"] == "life-1"
    until(lambda: "life-1" in server.log.read_text())
    answer = requests.post(f"{web.url}/v1/recognise", data=SAMPLE.read_bytes(), timeout=600)
    assert answer.status_code == 200
    until(lambda: answer.headers["X-Request-Id"] in web.log.read_text())
    text = web.log.read_text()
    assert re.search(r"POST /v1/recognise 415 format \d.* life-1$", text, re.MULTILINE)
    for private in (name, "0.4321", *answer.json()["persons"][0]["pred"]):
        assert private not in text


def test_the_explain_page_may_do_nothing(web):
    """It is a page at the gateway's own address, made of what callers send."""
    answer = requests.post(f"{web.url}/v1/explain", data=SAMPLE.read_bytes(), timeout=600)
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert policy == EXPLAIN_POLICY
    assert "script-src" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
