"""Hostile input through a real gateway to the real server: refused or answered, never a 500, in flat memory."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from cocoer_client.web.problems import REASONS
from tests.gateway import Gateway, gateway
from tests.hostile import bad_samples, good_samples, mutations
from tests.sockets import all_of, connect, exchange, posted, status, statuses
from tests.waiting import until

SAMPLES = good_samples() + bad_samples()
GROWTH = 256 << 20
"""Bytes by which the gateway may grow: three callers send 30 MB each without end; kept, that is gigabytes."""
ORDINARY = good_samples()[0].data


@pytest.fixture(scope="module")
def strict(server, tmp_path_factory) -> Iterator[Gateway]:
    """A gateway with little patience."""
    options = ("--body-timeout", "1", "--header-timeout", "1", "--max-connections", "1200")
    with gateway(server.url, tmp_path_factory.mktemp("strict") / "log", *options) as running:
        yield running
    log = running.log.read_text()
    assert "Traceback" not in log
    assert " 500 " not in log


def memory(web: Gateway) -> int:
    """Bytes of the gateway that are in memory."""
    lines = Path(f"/proc/{web.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))


def connections(web: Gateway) -> int:
    """How many it has, the one that asks left out."""
    text = requests.get(f"{web.url}/metrics", timeout=60, headers={"Connection": "close"}).text
    return int(float(next(line.split()[1] for line in text.splitlines() if line.startswith("cocoer_web_connections "))))


def answers(web: Gateway) -> bool:
    """Whether an ordinary request still gets its answer."""
    answer = requests.post(f"{web.url}/v1/recognise", data=ORDINARY, timeout=120, headers={"Connection": "close"})
    return answer.status_code == 200


def post(session: requests.Session, web: Gateway, data: bytes, form: bool) -> requests.Response:
    content = {"files": {"image": ("../../x.jpg", data)}} if form else {"data": data}
    return session.post(f"{web.url}/v1/recognise", timeout=120, **content)


@pytest.mark.parametrize("form", [False, True], ids=["raw", "form"])
def test_each_file_gets_its_verdict(web, form):
    with requests.Session() as session:
        for sample in SAMPLES:
            answer = post(session, web, sample.data, form)
            found = answer.json()
            if sample.verdict:
                assert (answer.status_code, found.get("reason")) == (REASONS[sample.verdict][0], sample.verdict), (
                    sample.name
                )
            else:
                assert answer.status_code == 200, (sample.name, found)
                assert sample.size in (None, (found["image"]["width"], found["image"]["height"])), sample.name


def test_damaged_files_without_end(web):
    wild = mutations(17)
    with requests.Session() as session:
        for at in range(150):
            answer = post(session, web, next(wild), form=at % 2 == 0)
            assert answer.status_code in (200, 400, 413, 415, 422), answer.text


def forms(parts: int) -> bytes:
    one = b'--b\r\nContent-Disposition: form-data; name="%d"\r\n\r\n1\r\n'
    return posted(
        b"".join(one % at for at in range(parts)) + b"--b--\r\n", "Content-Type: multipart/form-data; boundary=b"
    )


CHUNKED = posted(b"", "Transfer-Encoding: chunked", length=None)
ATTACKS = {
    "1 GB announced": ([posted(length=1 << 30)], {413}),
    "1 GB announced, and asked whether to send it": ([posted(b"", "Expect: 100-continue", length=1 << 30)], {413}),
    "40 MB sent": ([posted(bytes(40 << 20))], {413}),
    "40 MB sent in chunks": ([CHUNKED, *[b"100000\r\n" + bytes(1 << 20) + b"\r\n"] * 40], {413}),
    "100 parts": ([forms(100)], {400}),
    "10,000 parts": ([forms(10_000)], {400}),
    "a slow head": ([bytes([byte]) for byte in posted(ORDINARY)[:30]], {0}),
    "a slow body": ([posted(length=1000), *[b"\xff"] * 30], {408}),
    "a body cut short": ([posted(ORDINARY, length=len(ORDINARY) + 1)], {408}),
    "a body longer than announced": ([posted(ORDINARY, length=9)], {400}),
    "chunks without end": ([CHUNKED + b"1\r\nx\r\n"], {408}),
    "two lengths": ([posted(ORDINARY, "Content-Length: 0")], {400}),
    "length and chunks": ([posted(b"0\r\n\r\nGET /", "Transfer-Encoding: chunked")], {400}),
    "a head of 1 MB": ([posted(b"", "X: " + "x" * (1 << 20))], {431}),
    "compressed": ([posted(bytes(100), "Content-Encoding: gzip")], {415}),
    "JSON bomb": ([posted(ORDINARY, "Connection: close", path="/v1/recognise?persons=" + "[" * 50_000)], {422}),
    "boxes beyond all numbers": (
        [posted(ORDINARY, "Connection: close", path='/v1/recognise?persons=[{"body":[0,0,1e39,1e300]}]')],
        {400, 422},
    ),
    "a path with NULs": ([posted(b"", "Connection: close", path="/page/%00/../../etc/passwd")], {404, 405}),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_by_hand(strict, name):
    pieces, expected = ATTACKS[name]
    answer = exchange(strict.port, *pieces, pause=0.05 if len(pieces) == 31 or name == "a slow head" else 0)
    assert status(answer) in expected, answer[:1000]
    if expected == {0}:
        assert answer == b""


def test_requests_cut_off(strict):
    request = posted(ORDINARY)
    for at in range(1, len(request), len(request) // 40):
        with connect(strict.port) as connection:
            connection.sendall(request[:at])
    assert answers(strict)
    until(lambda: connections(strict) <= 1)


def attacked(web: Gateway) -> None:
    """1,000 connections that do nothing or little, large and slow bodies, while others are answered."""
    over = threading.Event()

    def attack(*pieces: bytes) -> set[int]:
        seen = set()
        while not over.is_set():
            seen.update(statuses(exchange(web.port, *pieces)))
        return seen

    with ThreadPoolExecutor() as threads, contextlib.ExitStack() as idle:
        attacks = [
            threads.submit(attack, posted(bytes(40 << 20))),
            threads.submit(attack, CHUNKED, *[b"100000\r\n" + bytes(1 << 20) + b"\r\n"] * 40),
            threads.submit(attack, posted(bytes(30 << 20), length=31 << 20)),
            threads.submit(attack, forms(100)),
        ]
        crowd = [idle.enter_context(connect(web.port)) for _ in range(1000)]
        for connection in crowd[::2]:
            with contextlib.suppress(ConnectionError):
                connection.sendall(posted(length=1000)[:60])
        for _ in range(20):
            assert answers(web)
        assert [all_of(connection) for connection in crowd] == [b""] * len(crowd)
        over.set()
        seen = set().union(*(one.result() for one in attacks))
    assert seen <= {400, 408, 413}
    assert {400, 413} <= seen
    until(lambda: connections(web) <= 1)


@pytest.mark.needs("this_machine")
def test_under_attack(strict):
    """Nothing is left of it: what the first one takes, for the largest bodies, is all there ever is."""
    attacked(strict)
    before = memory(strict)
    for _ in range(2):
        attacked(strict)
    assert memory(strict) - before < GROWTH
