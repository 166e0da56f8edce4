"""The supervisor, with a Python script in Triton's place and a renamed ``sleep`` in its stubs'."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from serving import processes, supervisor
from serving.drain import Drain
from serving.processes import stubs
from serving.supervisor import GAVE_UP, Supervisor
from tests.unit.test_drain import metrics, text_of
from tests.waiting import until

SERVER = """
import os, signal, subprocess, sys, time
stub, starts = sys.argv[1:3]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0) if len(sys.argv) > 3 else None)
child = subprocess.Popen([stub, "600", "/models/head_encoder/1/model.onnx"][:2])
with open(starts, "a") as file:
    file.write(f"{os.getpid()} {child.pid}\\n")
while True:
    time.sleep(0.05)
"""


@pytest.fixture
def stub(tmp_path):
    """A program that only sleeps, by the name of Triton's."""
    sleep = shutil.which("sleep")
    assert sleep
    return shutil.copy(sleep, tmp_path / "triton_python_backend_stub")


@pytest.fixture
def command(tmp_path, stub):
    """A server that never looks after its child, and notes each start."""
    (tmp_path / "starts").touch()
    return [sys.executable, "-c", SERVER, str(stub), str(tmp_path / "starts")]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(supervisor, "POLL", 0.05)
    monkeypatch.setattr(supervisor, "GRACE", 0.3)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def started(tmp_path, count):
    """Pids of server and stub at each start, once there are so many."""

    def lines():
        return (tmp_path / "starts").read_text().splitlines()

    until(lambda: len(lines()) >= count)
    return [tuple(map(int, line.split())) for line in lines()]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_dead_stub_means_a_new_server(command, tmp_path, caplog):
    tidied = []
    watched = Supervisor(command, os.environ, tidy=lambda: tidied.append(1))

    def story():
        server, stub = started(tmp_path, 1)[0]
        assert stubs(server)[stub][0] in "SR"
        os.kill(stub, signal.SIGKILL)
        started(tmp_path, 2)
        watched.ask_to_stop(signal.SIGTERM)
        os.kill(started(tmp_path, 2)[1][0], signal.SIGKILL)  # this one ignores SIGTERM

    thread = threading.Thread(target=story)
    thread.start()
    with caplog.at_level(logging.ERROR):
        code = watched.run()
    thread.join()
    assert code == 137
    (first, _), (second, _) = started(tmp_path, 2)
    assert not alive(first)
    assert not alive(second)
    assert tidied == [1, 1]
    assert "has died; starting the server anew (1 of 3)" in caplog.text


@pytest.mark.parametrize("who", ["Triton itself", "unknown"])
def test_a_stopped_process_means_a_new_server(who, command, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(processes, "STOPPED", 0.2)
    watched = Supervisor(command, os.environ)

    def story():
        server, stub = started(tmp_path, 1)[0]
        os.kill(server if who == "Triton itself" else stub, signal.SIGSTOP)
        second, _ = started(tmp_path, 2)[1]
        watched.ask_to_stop(signal.SIGTERM)
        os.kill(second, signal.SIGKILL)

    thread = threading.Thread(target=story)
    thread.start()
    assert watched.run() == 137
    thread.join()
    assert not alive(started(tmp_path, 2)[0][0])
    assert f"a process of {who} is stopped; starting the server anew (1 of 3)" in caplog.text


NOTES_ITS_SIGNAL = """
import signal, sys, time
def note(number, frame):
    open(sys.argv[1], "w").write(signal.Signals(number).name)
    sys.exit(0)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, note)
open(sys.argv[2], "w").close()
while True:
    time.sleep(0.05)
"""


def test_a_lost_terminal_is_a_wish_to_stop(tmp_path):
    """Triton has no handler for SIGHUP, and would die of it at once."""
    noted, ready = tmp_path / "noted", tmp_path / "ready"
    watched = Supervisor([sys.executable, "-c", NOTES_ITS_SIGNAL, str(noted), str(ready)], os.environ)

    def hang_up():
        until(ready.exists)
        os.kill(os.getpid(), signal.SIGHUP)

    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    thread = threading.Thread(target=hang_up)
    thread.start()
    assert watched.run() == 0
    thread.join()
    assert noted.read_text() == "SIGTERM"


HELD_BY_CONNECTIONS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: None)
open(sys.argv[1], "w").close()
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("pending", "code", "told"),
    [(0, 0, "all they asked is answered"), (1, 1, "requests that are still running are lost")],
    ids=["idle", "asking"],
)
def test_connections_do_not_hold_a_server_that_stops(pending, code, told, tmp_path, caplog, monkeypatch):
    """Triton waits for those that callers keep open, and then ends with an error; requests that are answered are no
    reason to."""
    monkeypatch.setattr(supervisor, "UNLOADING", 1.0)
    ready = tmp_path / "ready"
    with metrics([text_of(pending, 0)]) as (address, _):
        command = [sys.executable, "-c", HELD_BY_CONNECTIONS, str(ready)]
        watched = Supervisor(command, os.environ, Drain(address, address, seconds=0.8))

        def stop():
            until(ready.exists)
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=stop)
        thread.start()
        assert watched.run() == code
        thread.join()
    assert told in caplog.text


def test_nohup_is_respected():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Supervisor([sys.executable, "-c", ""], os.environ).run()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_gives_up_in_the_end(tmp_path, caplog):
    code = Supervisor([sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"], os.environ).run()
    assert code == GAVE_UP
    assert caplog.text.count("tritonserver was killed by signal 11; starting") == 3
    assert "for the 4th time in 10 minutes; giving up" in caplog.text


@pytest.mark.parametrize("code", [0, 1, 7])
def test_a_server_that_ends_itself_is_not_started_again(code):
    assert Supervisor([sys.executable, "-c", f"import sys; sys.exit({code})"], os.environ).run() == code


def test_a_stub_that_its_server_ends_is_none_of_our_business(stub, monkeypatch):
    """Loading and unloading models ends stubs all the time; Triton waits for those."""
    monkeypatch.setattr(supervisor, "POLL", 0.2)  # a busy machine may keep the script from waiting for a while
    script = (
        "import subprocess, sys, time\n"
        "for _ in range(10):\n"
        "    child = subprocess.Popen([sys.argv[1], '9'])\n"
        "    time.sleep(0.1); child.kill(); child.wait()\n"
    )
    assert Supervisor([sys.executable, "-c", script, str(stub)], os.environ).run() == 0


def test_stubs_are_told_by_their_model(tmp_path):
    script = tmp_path / "triton_python_backend_stub"
    shutil.copy(sys.executable, script)
    command = [str(script), "-c", "import time; time.sleep(20)", "/repository/vi_head/1/model.onnx", "more"]
    environment = {**os.environ, "LD_LIBRARY_PATH": os.path.join(sys.base_prefix, "lib"), "PYTHONHOME": sys.base_prefix}
    with subprocess.Popen(command, env=environment) as process:
        try:
            assert stubs(os.getpid())[process.pid][1] == "vi_head"
        finally:
            process.kill()
