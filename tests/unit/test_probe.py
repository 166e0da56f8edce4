"""Asking a server whether it answers, with made-up ones in Triton's place; real ones are in tests/serving."""

import io
import json
import logging
import socket
import threading

import numpy as np
import pytest
from PIL import Image

from serving import flags
from serving.endpoints import Endpoints, Outcome, Progress, png, request_body
from serving.probe import FAILURES, STILL, Probe
from tests.unit.test_drain import metrics

ANSWERED = (Outcome.ANSWERED, "")
FAILED = (Outcome.FAILED, "recognition failed")
SILENT = (Outcome.SILENT, "no answer within 30 s")
IDLE = Progress(5, 100)


class MadeUp:
    """Endpoints with a script: what is answered, and what has been done before and after each look."""

    def __init__(self, *looks):
        self.outcomes = [outcome for outcome, *_ in looks]
        self.told = [progress for _, *both in looks for progress in both]
        self.asked, self.is_ready = 0, True

    def ready(self):
        return self.is_ready

    def ask(self, seconds):
        self.asked += 1
        return self.outcomes.pop(0)

    def progress(self):
        return self.told.pop(0)


def looked_at(*looks):
    """A probe after these looks, and its server."""
    server = MadeUp(*looks)
    probe = Probe(server, period=10)
    probe._seen = looks[0][1]
    for _ in looks:
        assert probe.look()
    return probe, server


def test_an_image_that_others_read():
    assert np.asarray(Image.open(io.BytesIO(png(64)))).tolist() == [[128] * 64] * 64


def test_the_request_is_what_triton_takes():
    """JSON in front, then the tensors as they are; sizes add up."""
    body, json_bytes = request_body()
    described = json.loads(body[:json_bytes])
    sizes = [tensor["parameters"]["binary_data_size"] for tensor in described["inputs"]]
    assert json_bytes + sum(sizes) == len(body)
    persons = np.frombuffer(body[-sizes[1] :], dtype="<f4").reshape(described["inputs"][1]["shape"])
    assert persons[1, 0, 4:].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("outcome", [FAILED, SILENT])
def test_gives_a_server_up_that_does_nothing(outcome, caplog):
    with caplog.at_level(logging.WARNING):
        probe, _ = looked_at(*[(outcome, IDLE, IDLE)] * (FAILURES - 1))
        assert not probe.verdict
        probe, _ = looked_at(*[(outcome, IDLE, IDLE)] * FAILURES)
    assert probe.verdict == f"cocoer does not answer ({outcome[1]})"
    assert f"{outcome[1]} (3 of 3)" in caplog.text


def test_one_answer_is_enough_to_begin_anew():
    failed = (FAILED, IDLE, IDLE)
    probe, _ = looked_at(failed, failed, (ANSWERED, IDLE, IDLE), failed, failed)
    assert not probe.verdict


def test_who_answers_callers_is_not_asked():
    server = MadeUp((ANSWERED, Progress(6, 110), Progress(6, 110)))
    probe = Probe(server, period=10)
    probe._seen = IDLE
    assert probe.look()
    assert server.asked == 0


def test_a_busy_server_is_not_a_dead_one():
    """A crowd takes longer than a probe waits, and models finish batches of it meanwhile."""
    busy = [(SILENT, Progress(5, 100 + n), Progress(5, 101 + n)) for n in range(9)]
    assert not looked_at(*busy)[0].verdict


def test_other_models_work_does_not_hide_one_that_only_fails():
    failing = [(FAILED, Progress(5, 100 + n), Progress(5, 101 + n)) for n in range(FAILURES)]
    assert looked_at(*failing)[0].verdict
    answering = [(FAILED, Progress(5 + n, 100), Progress(6 + n, 100)) for n in range(FAILURES)]
    assert not looked_at(*answering)[0].verdict


def working(*steps, outcome=ANSWERED):
    """Looks that find one instance at these steps and another one idle; what has been done in all never changes."""
    told = [IDLE._replace(steps={"cocoer_0_0": step, "cocoer_0_1": 0}) for step in steps]
    return [(outcome, progress, progress) for progress in told]


def test_an_instance_that_stands_still_while_others_answer_is_noticed():
    assert not looked_at(*working(*[7] * STILL))[0].verdict, "seen for the first time, and then not once more enough"
    probe, _ = looked_at(*working(*[7] * (STILL + 1)))
    assert probe.verdict == "cocoer_0_0 has not moved for 90 s, while others answer"
    assert probe.doubt == "", "the others go on"


def test_an_instance_that_goes_on_or_rests_is_left_alone():
    assert not looked_at(*working(*range(1, 3 * STILL)))[0].verdict
    assert not looked_at(*working(*[0] * 3 * STILL))[0].verdict
    assert not looked_at(*working(*([7] * STILL + [8]) * 3))[0].verdict


def test_an_instance_waits_with_all_others():
    """A machine that has much else to do: models finish something, nobody is answered."""
    busy = [
        (SILENT, before, before._replace(work=before.work + 1))
        for before in (Progress(5, 100 + n, {"cocoer_0_0": 7}) for n in range(3 * STILL))
    ]
    assert not looked_at(*busy)[0].verdict


def test_without_metrics_the_answer_decides():
    assert looked_at(*[(SILENT, None, None)] * FAILURES)[0].verdict


def test_what_is_not_served_is_not_watched(caplog):
    server = MadeUp(((Outcome.NOT_SERVED, "HTTP 404: unknown model"), IDLE, IDLE))
    probe = Probe(server, period=10)
    probe._seen = IDLE
    assert not probe.look()
    assert "so that a hang is not noticed" in caplog.text


def test_progress_is_read_from_metrics():
    text = (
        'nv_inference_exec_count{model="fusion",version="1"} 7\n'
        'nv_inference_exec_count{model="vi_head",version="1"} 5\n'
        'nv_inference_request_failure{model="fusion",reason="OTHER"} 2\ncocoer_persons_total 3\n'
        'cocoer_instance_step{name="cocoer_0_1"} 4\n'
    )
    with metrics([text]) as (address, _):
        assert Endpoints(address, address).progress() == (3, 14, {"cocoer_0_1": 4})
        assert Endpoints(address, None).progress() is None
    assert Endpoints(address, address).progress() is None  # it is gone


ANSWERS = {
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n": Outcome.NOT_SERVED,
    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n": Outcome.NOT_SERVED,
    b"HTTP/1.1 503 Unavailable\r\nContent-Length: 4\r\n\r\nfull": Outcome.SILENT,
    b"HTTP/1.1 500 Error\r\nContent-Length: 100\r\n\r\nno": Outcome.FAILED,
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}": Outcome.FAILED,
    b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{": Outcome.SILENT,
    b"": Outcome.SILENT,
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_comes_of_an_answer(answer):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_once():
            connection, _ = listening.accept()
            with connection:
                left = request_body()
                received = b""
                while left[0] not in received:
                    received += connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        assert Endpoints(listening.getsockname(), None).ask(60)[0] is ANSWERS[answer]
        thread.join()


def test_no_answer_at_all():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        outcome, words = Endpoints(listening.getsockname(), None).ask(0.1)
        assert outcome is Outcome.SILENT
        assert words.startswith("no answer within 0.1 s")


def test_when_nobody_asks(monkeypatch):
    made = flags.probe_of(["--http-port=9", "--metrics-port=8"])
    assert made is not None
    assert made().server == Endpoints(("127.0.0.1", 9), ("127.0.0.1", 8))
    assert flags.probe_of(["--allow-http=false"]) is None
    for text in ("often", "-1", "nan", "inf"):
        monkeypatch.setenv(flags.PROBE_VARIABLE, text)
        with pytest.raises(flags.LauncherError, match="COCOER_PROBE_SECONDS must be a number of seconds"):
            flags.probe_of([])
    monkeypatch.setenv(flags.PROBE_VARIABLE, "0")
    made = flags.probe_of([])
    assert made is not None
    with made().watching() as probe:
        assert (probe.verdict, probe.doubt) == ("", "")
        assert not any(thread.name == "probe" for thread in threading.enumerate())


def test_a_server_in_doubt_is_not_ready():
    probe, _ = looked_at((FAILED, IDLE, IDLE))
    assert probe.doubt == "cocoer does not answer (recognition failed)"
    probe, _ = looked_at((FAILED, IDLE, IDLE), (ANSWERED, IDLE, IDLE))
    assert probe.doubt == ""
