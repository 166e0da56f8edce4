"""What orchestrators are told of a server."""

import os
import socket
import sys
import urllib.error
import urllib.request

import pytest

from serving import flags, launcher
from serving.health import told_of
from serving.probe import Probe
from serving.supervisor import Supervisor
from tests.unit.test_probe import IDLE, MadeUp

ANYWHERE = ("127.0.0.1", 0)


def asked(address, path, method="GET"):
    """Status and text."""
    request = urllib.request.Request("http://{}:{}{}".format(*address, path), method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_ready_and_alive():
    reasons = ["cocoer does not answer", "", ""]
    with told_of(ANYWHERE, lambda: reasons.pop(0)) as address:
        assert asked(address, "/ready") == (503, "cocoer does not answer\n")
        assert asked(address, "/ready") == (200, "ready\n")
        assert asked(address, "/ready", "HEAD") == (200, "")
        assert asked(address, "/live") == (200, "alive\n")
        assert asked(address, "/") == (404, "there are /ready and /live\n")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address, timeout=5)


def test_what_a_supervisor_says():
    server = MadeUp()
    supervisor = Supervisor([], {}, probe=lambda: Probe(server))
    assert supervisor.not_ready() == "the server is starting"
    supervisor._watching = probe = Probe(server)
    assert supervisor.not_ready() == "the server is starting"
    probe.doubt = ""
    assert supervisor.not_ready() == ""
    server.is_ready = False
    assert supervisor.not_ready() == "Triton is not ready"
    probe.doubt = "cocoer does not answer"
    assert supervisor.not_ready() == "cocoer does not answer"
    supervisor.ask_to_stop(15)
    assert supervisor.not_ready() == "the server is stopping"


def test_the_address(monkeypatch):
    monkeypatch.delenv(flags.HEALTH_VARIABLE, raising=False)
    assert flags.health_address() is None
    for text, expected in {"0.0.0.0:8003": ("0.0.0.0", 8003), "[::1]:8003": ("::1", 8003)}.items():
        monkeypatch.setenv(flags.HEALTH_VARIABLE, text)
        assert flags.health_address() == expected
    for text in ("8003", "0.0.0.0:", "0.0.0.0:http", ":8003", "0.0.0.0:99999"):
        monkeypatch.setenv(flags.HEALTH_VARIABLE, text)
        with pytest.raises(flags.LauncherError, match="must be host:port, as in 0.0.0.0:8003"):
            flags.health_address()


def test_nowhere_to_listen(monkeypatch):
    with socket.create_server(ANYWHERE) as taken:
        monkeypatch.setenv(flags.HEALTH_VARIABLE, f"127.0.0.1:{taken.getsockname()[1]}")
        supervisor = Supervisor([sys.executable, "-c", ""], os.environ, probe=lambda: Probe(MadeUp((None, IDLE))))
        with pytest.raises(flags.LauncherError, match=r"can't listen on 127.0.0.1:\d+ \(Address already in use\)"):
            launcher.supervise(supervisor)
        with pytest.raises(flags.LauncherError, match="needs Triton's HTTP endpoint"):
            launcher.supervise(Supervisor([sys.executable, "-c", ""], os.environ))
