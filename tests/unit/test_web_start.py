"""``make web``: what it starts, in which order it stops it, and what it says when it can't go on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from serving import building, gateway, web
from serving.background import ServerFailed
from serving.gateway import Gateway
from serving.server import free_ports
from tests.waiting import PATIENCE

STUB = """
import http.server, pathlib, signal, sys
url, port = sys.argv[2], int(sys.argv[4])
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        self.send_response(200 if Handler.asked > 2 and self.path == "/readyz" else 503)
        self.end_headers()
    def log_message(self, *_):
        pass
def end(*_):
    print("finished", Handler.asked, *sys.argv[5:], flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
if url == "none:1":
    sys.exit("no such server")
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
"""In the place of cocoer-web: ready at the third time it is asked."""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    (tmp_path / "stub_gateway.py").write_text(STUB)
    monkeypatch.setattr(gateway, "MODULE", "stub_gateway")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_gateway_is_ready_before_the_block_and_asked_to_stop_after_it(stub, tmp_path):
    (port,) = free_ports(1)
    with Gateway("triton:8001", port, tmp_path / "logs" / "log", ["--keys", "file"]) as running:
        assert running.is_ready()
        assert os.getsid(running.process.pid) != os.getsid(0)  # Ctrl-C in the terminal is not its own
    assert running.process.returncode == 0
    assert running.log_tail() == "finished 4 --keys file"


def test_a_gateway_that_ends_at_once_says_why(stub, tmp_path):
    (port,) = free_ports(1)
    with (
        pytest.raises(ServerFailed, match="ended with code 1:\nno such server"),
        Gateway("none:1", port, tmp_path / "x"),
    ):
        pass


def test_a_gateway_that_is_never_ready_is_stopped(stub, tmp_path):
    """It is asked once, which is too early for the stub."""
    (port,) = free_ports(1)
    late = Gateway("triton:8001", port, tmp_path / "log", timeout=0.05)
    with pytest.raises(ServerFailed, match=r"not ready within 0\.05 s"), late:
        pass
    assert late.process.returncode is not None


class Part:
    """A server or a gateway that does nothing: a process that sleeps, and notes what happens to it."""

    notes: list[str]
    ends: str
    """The part whose process ends by itself."""

    def __init__(self, name: str, *arguments: object) -> None:
        self.name, self.arguments = name, arguments
        self.url = f"{name}:1"

    def __enter__(self) -> Part:
        self.notes.append(f"{self.name} started")
        seconds = "0" if self.ends == self.name else "600"
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"import time; time.sleep({seconds}); raise SystemExit(7)"]
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.notes.append(f"{self.name} stopped")
        self.process.kill()
        self.process.wait(PATIENCE)

    def log_tail(self) -> str:
        return f"log of {self.name}"


@pytest.fixture
def parts(monkeypatch):
    """Stand-ins for both, and what they note; signals as before afterwards."""
    before = {number: signal.getsignal(number) for number in web.STOPPING}
    monkeypatch.setattr(Part, "notes", [], raising=False)
    monkeypatch.setattr(Part, "ends", "", raising=False)
    monkeypatch.setattr(web, "TritonServer", lambda *given, **_: Part("tritonserver", *given))
    monkeypatch.setattr(web, "Gateway", lambda *given: Part("cocoer-web", *given))
    monkeypatch.setattr(web, "PAUSE", 0.02)
    for number in web.STOPPING:  # of which nohup, and a shell's background, would have some ignored
        signal.signal(number, signal.SIG_DFL)
    yield Part
    for number, handler in before.items():
        signal.signal(number, handler)


ORDER = ["tritonserver started", "cocoer-web started", "cocoer-web stopped", "tritonserver stopped"]


@pytest.mark.parametrize("number", web.STOPPING)
def test_a_signal_stops_the_gateway_first(parts, monkeypatch, capsys, number):
    monkeypatch.setattr(web, "watch", lambda *_: signal.raise_signal(number))
    assert web.main(["--repository", "models", "--port", str(free_ports(1)[0])]) == 0
    assert parts.notes == ORDER
    assert capsys.readouterr().out.endswith("Stopping; what runs is finished first ...\nStopped.\n")
    signal.raise_signal(number)  # a second one interrupts nothing


@pytest.mark.parametrize(("ends", "other"), [("cocoer-web", "tritonserver"), ("tritonserver", "cocoer-web")])
def test_one_ends_and_the_other_is_stopped(parts, monkeypatch, capsys, ends, other):
    monkeypatch.setattr(parts, "ends", ends)
    assert web.main(["--repository", "models", "--port", str(free_ports(1)[0])]) == 1
    assert parts.notes == ORDER
    told = f"error: {ends} ended with code 7; {other} is stopped, too:\nlog of {ends}\n"
    assert capsys.readouterr().err == told


def test_what_is_ignored_stays_ignored(parts):
    """nohup make web."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    web.stop_by_signals()
    signal.raise_signal(signal.SIGHUP)
    with pytest.raises(web.Stopped):
        signal.raise_signal(signal.SIGTERM)


def test_a_server_that_does_not_start_is_an_error(monkeypatch, parts, capsys):
    def fails(*_: object, **__: object) -> None:
        raise ServerFailed("tritonserver ended with code 1:\nwhy")

    monkeypatch.setattr(web, "TritonServer", fails)
    assert web.main(["--repository", "models", "--port", str(free_ports(1)[0])]) == 1
    assert capsys.readouterr().err == "error: tritonserver ended with code 1:\nwhy\n"


def test_without_a_repository_one_is_built(monkeypatch, parts):
    port = str(free_ports(1)[0])
    monkeypatch.setattr(web, "build", lambda: 3)
    assert web.main(["--port", port]) == 3
    assert parts.notes == []
    monkeypatch.setattr(web, "build", lambda: 0)
    served: list[object] = []

    def serve(*given: object) -> int:
        served.extend(given)
        return 0

    monkeypatch.setattr(web, "serve", serve)
    assert web.main(["--port", port, "--", "--keys", "keys.txt"]) == 0
    assert served == [building.PROJECT / building.REPOSITORY, int(port), ["--keys", "keys.txt"]]
    assert (building.PROJECT / "export" / "build_engines.py").is_file()


def test_a_port_in_use_is_told_before_anything_is_built(monkeypatch, capsys):
    monkeypatch.setattr(web, "build", lambda: pytest.fail("built"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert web.main(["--port", str(port)]) == 1
    other = port + 1 if port < 65535 else 8080
    assert (
        capsys.readouterr().err == f"error: port {port} of 127.0.0.1 is in use; choose another: make web PORT={other}\n"
    )


def test_a_port_that_was_in_use_is_free(tmp_path):
    """The end of an earlier connection lingers for a minute, which is in nobody's way."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listening.accept()
            accepted.close()  # first, so that its side is the one that lingers
            assert client.recv(1) == b""
    assert web.port_trouble(port) == ""


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port(port):
    assert "ports are 1 to 65535" in web.port_trouble(port)


def test_make_hands_the_port_on():
    result = subprocess.run(
        ["make", "--dry-run", "web", "PORT=8123"], cwd=building.PROJECT, capture_output=True, text=True, check=True
    )
    # Not the end of all: a make that make runs says which directory it leaves.
    assert ".venv/bin/python -m serving.web --port 8123" in result.stdout.splitlines()
