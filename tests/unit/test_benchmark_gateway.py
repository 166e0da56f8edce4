"""The benchmark of the gateway: what it asks, how it listens, and the report's arithmetic."""

import asyncio
import email
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.gateway import Bench, Plan, mixed, photo
from benchmarks.gateway_load import FORM, GRPC, Http, Question, latencies, load, post
from benchmarks.gateway_report import growth, spreads, to_markdown
from cocoer_client import CocoerClient
from serving.server import free_ports

PERSONS = [{"body": [1, 2, 3, 4]}]
QUESTION = Question("one", b"\xff\xd8 an \r\n--image", PERSONS, 0.7)


def test_a_form_holds_what_is_asked():
    """Read by another parser than the gateway's."""
    head, _, body = QUESTION.post("/v1/annotate", form=True, accept="image/png").partition(b"\r\n\r\n")
    line, _, headers = head.decode().partition("\r\n")
    assert line == "POST /v1/annotate HTTP/1.1"
    message = email.message_from_bytes(f"{headers}\r\n\r\n".encode() + body)
    assert (message["Accept"], message["Content-Length"]) == ("image/png", str(len(body)))
    parts = {part.get_param("name", header="Content-Disposition"): part for part in message.get_payload()}
    assert json.loads(str(parts["persons"].get_payload())) == PERSONS
    assert parts["min_score"].get_payload() == "0.7"
    assert parts["image"].get_payload(decode=True) == QUESTION.image
    assert parts["image"].get_filename() == "image.jpg"


def test_a_body_is_the_image():
    head, _, body = QUESTION.post().partition(b"\r\n\r\n")
    assert body == QUESTION.image
    assert b"/v1/recognise?persons=%5B%7B%22body%22" in head
    assert b"&min_score=0.7 HTTP/1.1\r\n" in head


async def answering(reader, writer):
    """Two requests of a connection, the second with another status; in pieces."""
    for status in (b"200 OK", b"503 No"):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\nab")
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(b"cde")
    writer.close()


def test_answers_are_whole_and_connections_made_anew():
    async def run():
        async with await asyncio.start_server(answering, "127.0.0.1", 0) as server:
            http = Http(server.sockets[0].getsockname()[1])
            request = post("/", b"", {})
            for _ in range(2):
                assert await http.ask(0, request) == b"abcde"
                with pytest.raises(RuntimeError, match=r"answers 503.*abcde"):
                    await http.ask(0, request)
                await http.connections[0].lost.wait()

    asyncio.run(run())


def test_a_connection_that_is_cut_off_is_an_error():
    async def cut(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
        writer.close()

    async def run():
        async with await asyncio.start_server(cut, "127.0.0.1", 0) as server:
            with pytest.raises(ConnectionError):
                await Http(server.sockets[0].getsockname()[1]).ask(0, post("/", b"", {}))

    asyncio.run(run())


def test_ways_take_turns_and_so_many_are_on_their_way():
    asked, running = [], []

    def ask(way):
        async def one(slot):
            asked.append(way)
            running.append(slot)
            most.append(len(running))
            await asyncio.sleep(0)
            running.remove(slot)

        return one

    most: list[int] = []
    taken = asyncio.run(latencies({"a": ask("a"), "b": ask("b")}, 3))
    assert "".join(asked) == "abbaabba"
    assert {way: len(ms) for way, ms in taken.items()} == {"a": 3, "b": 3}
    asked.clear()
    done = asyncio.run(load(ask("c"), 20, 4, gateway=1))
    assert (len(asked), max(most)) == (20, 4)
    assert done.rate > 0


def test_the_mixture_is_what_the_report_says():
    questions = {"nobody": Question("nobody", b"small", []), "large": Question("large", b"l" * 1000)}
    request = mixed(Bench("", 0, 0, questions, Plan()))
    sent = [request(number) for number in range(1000)]
    heads = [content.partition(b"\r\n")[0] for content, _ in sent]
    assert sum(expected != 200 for _, expected in sent) == 200
    assert sum(b"/annotate" in head for head in heads) == 100
    assert sum(b"/explain" in head for head in heads) == 10
    assert sum(b"l" * 1000 in content for content, _ in sent) == 10


def test_the_photo_is_of_a_camera():
    assert 4.5e6 < len(photo()) < 5.5e6


def test_the_server_that_answers_at_once(tmp_path):
    """A client takes its answer for RESULT."""
    result = {"persons": [], "labels": ["a"] * 3}
    (tmp_path / "result.json").write_text(json.dumps(result))
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "benchmarks.gateway_fake", tmp_path / "result.json", "--port", str(port)]
    with subprocess.Popen(command) as process:
        with CocoerClient(f"127.0.0.1:{port}", retries=100) as client:
            assert client.infer_raw(b"anything", []) == result
            client.check_ready()
        process.kill()


def test_growth_is_that_of_the_lowest():
    noise = [0, 20, 5, 30]
    assert growth([10] * 4 + [100 + more for more in noise * 3]) == 0
    assert growth([10] * 4 + [100 + more for more in noise] + [110 + more for more in noise * 2]) == pytest.approx(0.1)
    assert growth([10] * 4 + [100 + more for more in noise] + [90 + more for more in noise * 2]) < 0


def test_spreads():
    found = spreads({GRPC: [1.0, 2.0, 9.0], FORM: [2.0, 4.0, 10.0]})
    assert (found[GRPC]["p50"], found[FORM]["p50"], found[FORM]["more"]) == (2.0, 4.0, 1.0)
    assert "more" not in found[GRPC]
    assert "more" not in spreads({"recognise": [1.0]})["recognise"]


def loads(rate, cpu_ms, load_ms):
    return [{"rate": rate, "cpu_ms": cpu_ms, "load_ms": load_ms}] * 2


MEASURED: dict[str, Any] = {
    "latency": {
        "one": {
            GRPC: {"p50": 100.0, "p95": 110.0, "p99": 120.0},
            FORM: {"p50": 105.5, "p95": 111.0, "p99": 121.0, "more": 4.0},
        }
    },
    "throughput": {"one": {GRPC: loads(10.0, 0.0, 1.0), FORM: loads(9.6, 5.0, 0.5)}},
    "drawing": {
        "one": {
            "recognise": {"ms": {"p50": 100.0}, "cpu_ms": 1.0, "bytes": 6000},
            "explain": {"ms": {"p50": 150.0}, "cpu_ms": 40.0, "bytes": 100_000},
        }
    },
    "idle": {
        "connections": 1000,
        "left": 990,
        "ms": {"without": {"p50": 2.0, "p99": 3.0}, "with": {"p50": 2.5, "p99": 4.0}},
        "memory": {"without": {"pss_mb": 100.0}, "with": {"pss_mb": 101.0}},
    },
    "memory": {
        "requests": 10_000,
        "seconds": 60.0,
        "step": 500,
        "samples": [{"rss_mb": 100.0 + 10 * (i >= 10), "pss_mb": 90.0} for i in range(21)],
    },
    "alone": {"one": {GRPC: {"ms": {"p50": 1.0}, **loads(900.0, 0.0, 0.4)[0]}}},
}
REPORT = {"time": "now", "command": "it", "machine": {"cpu": "Some CPU", "cores": 2}, "measured": MEASURED}


def test_markdown():
    text = to_markdown(REPORT)
    rows = [re.split(r" *\| *", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    assert ["one", GRPC, "100", "110", "120", "", ""] in rows
    assert ["one", FORM, "106", "111", "121", "+5.5, missed", "+4.0"] in rows
    assert ["one", FORM, "9.60 (9.60 to 9.60)", "96.0%, met", "5.0", "0.5", "97.6%"] in rows
    assert ["one", "explain", "150", "50.0", "40.0", "100"] in rows
    assert ["one", GRPC, "1.00", "900", "", "0.40"] in rows
    assert "1,000 idle connections, of which 990 were left" in text
    assert "the lowest sample grows by 10.0% (RSS) and 0.0% (PSS); the target is 5% at most: missed" in text
    assert "one in a hundred of 5 MB; a sample every 500, while none is on its way, MB:" in text


def test_parts_are_written_as_far_as_they_are_measured():
    only = {**REPORT, "measured": {"idle": MEASURED["idle"]}}
    assert "|" not in to_markdown(only)
    assert "990" in to_markdown(only)
