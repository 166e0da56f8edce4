"""Draining, with a few lines of HTTP in Triton's place."""

import contextlib
import http.server
import socket
import threading
import time

import pytest

from export.publishing.configs import MAX_WAIT_MICROSECONDS
from serving import drain
from serving.drain import Drain


@contextlib.contextmanager
def metrics(texts):
    """An endpoint that tells the next text each time, and the last one in the end; its address, and what it told."""
    left, told = list(texts), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802, http.server's name
            text = left.pop(0) if len(left) > 1 else left[0]
            told.append(text)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address, told
        finally:
            server.shutdown()
            thread.join()


def text_of(pending, running):
    return (
        "# TYPE nv_inference_pending_request_count gauge\n"
        f'nv_inference_pending_request_count{{model="cocoer"}} {pending}\n'
        f'nv_inference_pending_request_count{{model="fusion"}} 0\ncocoer_requests_running {running}\n'
    )


def test_there_is_time_for_what_was_accepted_last():
    """It may wait in the queue for as long as the configuration lets it, and is then worked on."""
    assert MAX_WAIT_MICROSECONDS == drain.MAX_WAIT * 1e6
    assert drain.MAX_DRAIN > 2 * drain.MAX_WAIT


def test_running_is_queued_and_worked_on():
    with metrics([text_of(3, 2)]) as (address, _):
        assert Drain(None, address).running() == 5


def test_waits_until_it_is_quiet():
    """A pause between two requests is not the end."""
    busy, quiet, again = text_of(2, 1), text_of(0, 0), text_of(0, 1)
    with metrics([busy, quiet, again, quiet]) as (address, told):
        Drain(None, address, seconds=600).wait(lambda: True)
    assert told == [busy, quiet, again] + [quiet] * drain.QUIET


def test_does_not_wait_for_ever():
    with metrics([text_of(0, 1)]) as (address, told):
        started = time.monotonic()
        Drain(None, address, 0.3).wait(lambda: True)
    assert time.monotonic() - started >= 0.3
    assert told


def test_does_not_wait_for_the_dead():
    with metrics([text_of(0, 1)]) as (address, told):
        Drain(None, address, seconds=600).wait(lambda: False)
    assert told == []


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnv_", b"nonsense\r\n\r\n", b""])
def test_an_answer_that_is_cut_off_tells_nothing(answer):
    """As from a server that ends while it writes its metrics."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_once():
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        assert Drain(None, listening.getsockname()).running() is None
        thread.join()


@pytest.mark.parametrize("there", [True, False])
def test_without_metrics_nobody_waits(there, monkeypatch):
    def never(seconds):
        raise AssertionError("waits for what it can't see")

    monkeypatch.setattr(drain.time, "sleep", never)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = unused.getsockname()
    Drain(None, address if there else None).wait(lambda: True)


def test_holds_a_connection_that_has_been_answered():
    with metrics(["alive"]) as (address, _), Drain(address, None).hold() as held:
        assert held


def test_holds_nothing_where_nobody_listens():
    with Drain(("127.0.0.1", 9), None).hold() as held:
        assert not held
    with Drain(None, None).hold() as held:
        assert not held
