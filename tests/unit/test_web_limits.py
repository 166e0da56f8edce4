"""Connections and requests within limits: a gateway in a thread, a stand-in for Triton, and HTTP by hand."""

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from cocoer_client.command import Connection
from cocoer_client.web.keys import make_key
from cocoer_client.web.protocol import MAX_FIELDS, MAX_HEAD, raise_file_limit
from cocoer_client.web.settings import Settings
from tests.fake_server import FakeServer
from tests.gateway_thread import gateway_in_thread
from tests.sockets import all_of, connect, exchange, posted, status, statuses
from tests.waiting import until

SOON = 0.4
"""Seconds of the timeouts here."""
JPEG = b"\xff\xd8\xff" + bytes(100)
ALIVE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Triton(FakeServer):
    """Answers an image of ``hold`` bytes when told to go on."""

    hold, large = 999, 998

    def __init__(self):
        super().__init__(self.result)
        self.go_on, self.held = threading.Event(), 0

    def result(self, image, _):
        if len(image) == self.hold:
            self.held += 1
            self.go_on.wait(60)
        return {"bytes": len(image), "text": "x" * (30 << 20) if len(image) == self.large else ""}


HELD = posted(JPEG[:3] + bytes(Triton.hold - 3), "Connection: close")
LARGE = posted(JPEG[:3] + bytes(Triton.large - 3), "Connection: close")


@pytest.fixture(scope="module")
def triton():
    server = Triton()
    server.start()
    yield server
    server.go_on.set()
    server.kill()


@pytest.fixture
def held(triton):
    """Triton, with what waits there ended at the end."""
    triton.held = 0
    triton.go_on.clear()
    yield triton
    triton.go_on.set()
    until(lambda: triton.in_flight == 0)


@pytest.fixture(scope="module")
def settings(triton):
    return Settings(url=triton.url, max_bytes=1 << 20, body_timeout=SOON, header_timeout=SOON, max_connections=50)


@pytest.fixture(scope="module")
def web(settings):
    with gateway_in_thread(settings) as running:
        yield running


def problem(answer: bytes) -> dict:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    found = json.loads(body)
    assert head.lower().count(b"x-request-id: " + found["request_id"].encode()) == 1
    assert found["status"] == status(answer)
    return found


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"GET /heal"],
        [b"\r\n"] * 20,
        [bytes([byte]) for byte in ALIVE[:-1]],
        [ALIVE[:-2], *[b"X: y\r\n"] * 30],
    ],
    ids=["nothing", "half a line", "empty lines", "byte by byte", "field by field"],
)
def test_a_head_that_does_not_come(web, pieces):
    before, begun = web.connections.timed_out, time.monotonic()
    assert exchange(web.port, *pieces, pause=0.05) == b""
    assert time.monotonic() - begun < 20 * SOON
    until(lambda: web.connections.timed_out == before + 1)


def test_a_connection_that_is_kept(web):
    """Several requests, and an end when no other comes; or half of one."""
    before = web.connections.timed_out
    for more in (b"", ALIVE[:-1]):
        assert statuses(exchange(web.port, ALIVE, posted(JPEG), ALIVE + more, pause=0.1)) == [200, 200, 200]
    until(lambda: web.connections.timed_out == before + 2)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * MAX_HEAD + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 3 * MAX_HEAD,
        LAST[:-2] + b"A: " + b"a" * MAX_HEAD + b"\r\n\r\n",
        LAST[:-2] + b"A: " + b"a" * 10 * MAX_HEAD,
        LAST[:-2] + b"A" * 3 * MAX_HEAD,
        LAST[:-2] + b"A: a\r\n" * MAX_FIELDS + b"\r\n",
        LAST[:-2] + b"A: a\r\n" * MAX_HEAD,
    ],
)
def test_a_head_that_is_too_large(web, head):
    answer = exchange(web.port, head)
    assert (status(answer), problem(answer)["reason"]) == (431, "head")
    assert status(exchange(web.port, LAST[:-2] + b"A: " + b"a" * (MAX_HEAD - 500) + b"\r\n\r\n")) == 200


POST = b"POST /v1/recognise HTTP/1.1\r\nHost: localhost\r\n"
MALFORMED = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a word": b"hello\r\n\r\n",
    "zeros": bytes(100),
    "a path that is not ASCII": b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no path": b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "CONNECT": b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a space before the colon": LAST[:-2] + b"A : b\r\n\r\n",
    "a NUL": LAST[:-2] + b"A: \0\r\n\r\n",
    # What one side of a proxy may read otherwise than the other: request smuggling.
    "both lengths": POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "both lengths, the other way": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 103\r\n\r\n" + JPEG,
    "a list of lengths": POST + b"Content-Length: 103, 103\r\n\r\n" + JPEG,
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a length with a sign": POST + b"Content-Length: +103\r\n\r\n" + JPEG,
    "a length in hex": POST + b"Content-Length: 0x67\r\n\r\n" + JPEG,
    "a length without end": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "another transfer coding": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "two transfer codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "a folded header": POST + b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "a chunk of no size": POST + b"Transfer-Encoding: chunked\r\n\r\n\r\n",
    "a chunk of negative size": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "a chunk that is too long": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "a chunk of 2**64 bytes": POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
    "more than was announced": posted(JPEG, length=3),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_http(web, name):
    before = web.connections.malformed
    answer = exchange(web.port, MALFORMED[name])
    assert (statuses(answer), problem(answer)["reason"]) == ([400], "request")
    assert web.connections.malformed == before + 1


@pytest.mark.parametrize("field", ["Upgrade", "UPGRADE"])
def test_an_offer_of_another_protocol_is_passed_over(web, triton, field):
    """As Java's HttpClient makes it; the body is what follows, whatever is in it."""
    body = JPEG + b"\r\nUpgrade: h2c\r\n\r\n"
    offer = ("Connection: Upgrade, HTTP2-Settings", f"{field}: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB")
    assert statuses(exchange(web.port, posted(body, *offer) + LAST)) == [200, 200]
    assert triton.last_request.raw_input_contents[0][4:] == body


def test_requests_ahead_of_answers(web, caplog):
    assert statuses(exchange(web.port, ALIVE + posted(JPEG) + LAST)) == [200, 200, 200]
    answer = exchange(web.port, ALIVE * 500)
    assert statuses(answer) == [503]
    assert "wait for the answer to the first" in problem(answer)["detail"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_too_many_connections(web):
    idle = [connect(web.port) for _ in range(40)]
    assert status(exchange(web.port, LAST)) == 200
    more = [connect(web.port) for _ in range(20)]
    until(lambda: web.connections.refused)
    assert problem(exchange(web.port))["reason"] == "busy"
    for connection in (*idle, *more):
        connection.close()
    until(lambda: web.connections.open == 0)
    assert status(exchange(web.port, LAST)) == 200


def test_idle_connections_end(web):
    idle = [connect(web.port) for _ in range(40)]
    assert [all_of(connection) for connection in idle] == [b""] * 40
    for connection in idle:
        connection.close()
    until(lambda: web.connections.open == 0)


@pytest.mark.parametrize("fields", [[], ["Expect: 100-continue"]])
@pytest.mark.parametrize("length", [(1 << 20) + 1, 1 << 30, 1 << 60])
def test_too_large_is_refused_before_the_body(web, fields, length):
    answer = exchange(web.port, posted(b"", *fields, length=length))
    assert (statuses(answer), problem(answer)["reason"]) == ([413], "bytes")
    assert b"\r\nconnection: close\r\n" in answer


def test_an_answer_while_still_sending(web):
    """It arrives: the connection is not reset under those who don't listen until they have sent all."""
    answer = exchange(web.port, posted(bytes(20 << 20)))
    assert problem(answer)["reason"] == "bytes"
    chunks = b"".join(b"100000\r\n" + bytes(1 << 20) + b"\r\n" for _ in range(20)) + b"0\r\n\r\n"
    assert problem(exchange(web.port, posted(b"", "Transfer-Encoding: chunked", length=None) + chunks))["status"] == 413


def test_a_body_that_waits_to_be_asked_for(web):
    with connect(web.port) as connection:
        connection.sendall(posted(b"", "Expect: 100-continue", "Connection: close", length=len(JPEG)))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(JPEG)
        assert status(all_of(connection)) == 200


@pytest.mark.parametrize(
    "request_",
    [
        posted(JPEG, length=len(JPEG) + 1),
        posted(b"", "Transfer-Encoding: chunked", length=None) + b"3\r\n\xff\xd8\xff\r\n",
        posted(b"--b\r\n", "Content-Type: multipart/form-data; boundary=b", length=1000),
    ],
    ids=["short", "chunked without end", "form"],
)
def test_a_slow_body(web, request_):
    answer = exchange(web.port, request_)
    assert (statuses(answer), problem(answer)["reason"]) == ([408], "slow")
    assert b"\r\nconnection: close\r\n" in answer
    assert (web.admission.reading, web.admission.upload_bytes) == (0, 0)


def test_slow_bodies_keep_nobody_out(settings):
    with gateway_in_thread(replace(settings, max_requests=1, body_timeout=60)) as web:
        slow = [connect(web.port) for _ in range(5)]
        for connection in slow:
            connection.sendall(posted(JPEG, length=1000))
        until(lambda: web.admission.reading == 5)
        assert status(exchange(web.port, posted(JPEG, "Connection: close"))) == 200
        for connection in slow:
            connection.close()
        until(lambda: web.admission.reading == 0)


def test_at_most_so_many_requests(settings, held):
    with gateway_in_thread(replace(settings, max_requests=2)) as web, ThreadPoolExecutor() as threads:
        running = [threads.submit(exchange, web.port, HELD) for _ in range(2)]
        until(lambda: held.held == 2)
        answer = exchange(web.port, posted(JPEG, "Connection: close"))
        assert (status(answer), problem(answer)["reason"]) == (503, "busy")
        assert b"\r\nretry-after: 1\r\n" in answer
        # Before the body is read.
        assert status(exchange(web.port, posted(b"", "Expect: 100-continue", length=1000))) == 503
        held.go_on.set()
        assert [status(one.result()) for one in running] == [200, 200]
        assert status(exchange(web.port, posted(JPEG, "Connection: close"))) == 200
        assert web.admission.working == 0


def test_at_most_so_many_requests_of_a_caller(settings, held, tmp_path):
    keys = [make_key(name) for name in ("one", "two")]
    (tmp_path / "keys").write_text("\n".join(line for _, line in keys))
    (tmp_path / "keys").chmod(0o600)
    one, two = (f"X-API-Key: {key}" for key, _ in keys)
    limited = replace(settings, keys=tmp_path / "keys", max_per_caller=1)
    with gateway_in_thread(limited) as web, ThreadPoolExecutor() as threads:
        running = threads.submit(exchange, web.port, HELD.replace(b"Connection", one.encode() + b"\r\nConnection"))
        until(lambda: held.held == 1)
        answer = exchange(web.port, posted(JPEG, "Connection: close", one))
        assert (status(answer), problem(answer)["reason"]) == (429, "caller")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert status(exchange(web.port, posted(JPEG, "Connection: close", two))) == 200
        held.go_on.set()
        assert status(running.result()) == 200
        assert status(exchange(web.port, posted(JPEG, "Connection: close", one))) == 200
        assert not web.admission.callers


def test_at_most_so_many_bytes_in_memory(settings, held):
    with gateway_in_thread(replace(settings, max_upload_bytes=1500)) as web, ThreadPoolExecutor() as threads:
        running = threads.submit(exchange, web.port, HELD)
        until(lambda: held.held == 1)
        assert web.admission.upload_bytes == Triton.hold
        for request in (
            posted(b"", "Expect: 100-continue", length=600),
            posted(b"", "Transfer-Encoding: chunked", length=None) + b"258\r\n" + bytes(600),
        ):
            answer = exchange(web.port, request)
            assert (statuses(answer), problem(answer)["reason"]) == ([503], "busy")
        assert status(exchange(web.port, posted(JPEG, "Connection: close"))) == 200
        held.go_on.set()
        assert status(running.result()) == 200
        assert web.admission.upload_bytes == 0


@pytest.mark.parametrize("behind", [b"", b"not HTTP \r\n\r\n"], ids=["closed", "malformed"])
def test_who_hangs_up_is_not_worked_for(web, held, caplog, behind):
    with connect(web.port) as connection:
        connection.sendall(HELD.replace(b"Connection: close\r\n", b""))
        until(lambda: held.held == 1)
        assert web.admission.working == 1
        connection.sendall(behind)
        if behind:
            assert statuses(all_of(connection)) == [400]
    until(lambda: web.admission.working == 0)
    until(lambda: web.admission.upload_bytes == 0)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_who_hangs_up_while_sending(web, caplog):
    with connect(web.port) as connection:
        connection.sendall(posted(JPEG, length=1000))
        until(lambda: web.admission.upload_bytes == len(JPEG))
    until(lambda: (web.admission.reading, web.admission.upload_bytes, web.connections.open) == (0, 0, 0))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_no_answer_in_time(settings, held):
    with gateway_in_thread(replace(settings, connection=Connection(timeout=SOON), retries=0)) as web:
        answer = exchange(web.port, HELD)
        assert (status(answer), problem(answer)["reason"]) == (504, "timeout")
        assert b"\r\nretry-after: 5\r\n" in answer
        assert web.admission.working == 0


def test_drawing_without_end_is_cut_off(settings, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr("cocoer_client.web.recognition._explain", lambda *_: go_on.wait(60))
    with gateway_in_thread(replace(settings, connection=Connection(timeout=SOON))) as web:
        answer = exchange(web.port, posted(JPEG, path="/v1/explain"))
        go_on.set()
    assert (status(answer), problem(answer)["reason"]) == (504, "timeout")


def test_an_answer_that_nobody_takes(web):
    with connect(web.port, buffer=4096) as connection:
        connection.sendall(LARGE)
        until(lambda: web.admission.working)
        until(lambda: web.connections.open == 0)


def test_an_answer_that_is_taken_slowly(web):
    taken = 0
    with connect(web.port, buffer=1 << 16) as connection:
        connection.sendall(LARGE)
        begun = time.monotonic()
        while piece := connection.recv(1 << 20):
            taken += len(piece)
            if time.monotonic() - begun < 4 * SOON:
                time.sleep(SOON / 8)
    assert taken > 30 << 20


def test_the_end_finishes_what_runs(settings, held):
    with (
        gateway_in_thread(replace(settings, header_timeout=60)) as web,
        connect(web.port) as idle,
        connect(web.port) as half,
        connect(web.port) as kept,
        ThreadPoolExecutor() as threads,
    ):
        half.sendall(ALIVE[:20])
        kept.sendall(ALIVE)
        assert status(kept.recv(1 << 16)) == 200
        running = threads.submit(exchange, web.port, HELD.replace(b"Connection: close\r\n", b""))
        until(lambda: held.held == 1)
        web.end()
        assert [all_of(connection) for connection in (idle, half, kept)] == [b"", b"", b""]
        held.go_on.set()
        answer = running.result()
        assert status(answer) == 200
        assert b"\r\nconnection: close\r\n" in answer
        web.thread.join(60)
        assert not web.thread.is_alive()


def test_raise_file_limit():
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
        assert raise_file_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
