"""What the client makes of a server's refusals, and when it asks again."""

import json
import time

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from cocoer_client import TLS, CocoerClient, InvalidRequest, RequestTimeout, ServerBusy, ServerError, ServerUnavailable
from cocoer_client.connection import FIRST_PAUSE, MAX_PAUSE, backoff

FULL = InferenceServerException("Exceeds maximum queue size", "StatusCode.UNAVAILABLE")
AWAY = InferenceServerException("failed to connect to all addresses", "StatusCode.UNAVAILABLE")


class Answer:
    def as_numpy(self, name):
        return np.array([json.dumps({"persons": []}).encode()], dtype=np.object_)


class FakeTriton:
    """Answers with what it is given, one after the other."""

    def __init__(self, *answers):
        self.answers, self.timeouts, self.parameters = list(answers), [], []

    def infer(self, model_name, inputs, *, parameters, headers, client_timeout, timeout):
        self.timeouts.append((client_timeout, timeout))
        self.parameters.append(parameters)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        pass


@pytest.fixture
def pauses(monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def client_of(*answers, **options):
    client = CocoerClient("nowhere:1", **options)
    client.close()
    client._client = FakeTriton(*answers)
    return client


@pytest.mark.parametrize("refusal", [FULL, AWAY])
def test_asks_again_where_the_server_was_busy_or_away(refusal, pauses):
    client = client_of(refusal, refusal, Answer())
    assert client.infer_raw(b"") == {"persons": []}
    assert len(pauses) == 2
    assert FIRST_PAUSE / 2 <= pauses[0] <= FIRST_PAUSE
    assert FIRST_PAUSE <= pauses[1] <= 2 * FIRST_PAUSE


def test_gives_up_after_as_many_tries_as_it_may(pauses):
    client = client_of(*[FULL] * 9, retries=3)
    with pytest.raises(ServerBusy, match="nowhere:1 is busy: Exceeds maximum queue size"):
        client.infer_raw(b"")
    assert len(client._client.timeouts) == 4


def test_options_that_are_given_are_sent(pauses):
    """Zero is a threshold; what is not given is the server's."""
    client = client_of(Answer())
    client.infer_raw(b"", final_threshold=0.0, level_threshold=None, timing=False)
    assert client._client.parameters == [{"final_threshold": 0.0}]


def test_options_that_there_are_not():
    with pytest.raises(TypeError, match="no such option: treshold; there are final_threshold, level_threshold"):
        client_of().infer(b"", treshold=0.5)


def test_gives_up_when_the_time_is_over(monkeypatch):
    """On a clock of its own, on which only pauses take time."""
    now = 100.0

    def sleep(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    client = client_of(*[FULL] * 50, retries=50, timeout=5)
    with pytest.raises(ServerBusy):
        client.infer_raw(b"")
    assert 105 - MAX_PAUSE <= now < 105
    assert len(client._client.answers) > 40, "asked until the time was over, not as often as it might"


def test_the_server_is_told_how_much_time_is_left(pauses):
    client = client_of(FULL, Answer(), timeout=10)
    client.infer_raw(b"")
    for seconds, microseconds in client._client.timeouts:
        assert 9 < seconds <= 10
        assert microseconds == pytest.approx(seconds * 1e6, abs=1)


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        ("INVALID_ARGUMENT", "IMAGE is empty", InvalidRequest),
        ("INTERNAL", "recognition failed on the server; its log says why", ServerError),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", RequestTimeout),
        ("UNAVAILABLE", "Request timeout expired", RequestTimeout),
    ],
)
def test_everything_else_is_told_at_once(status, message, error, pauses):
    client = client_of(InferenceServerException(message, f"StatusCode.{status}"), Answer())
    with pytest.raises(error):
        client.infer_raw(b"")
    assert pauses == []


CLASSES = {
    ("UNAVAILABLE", "[request id: x] Exceeds maximum queue size"): ServerBusy,
    ("UNAVAILABLE", "the server is being started anew; try again in some seconds"): ServerBusy,
    ("UNAVAILABLE", "the server is short of memory for this image; try again later"): ServerBusy,
    ("UNAVAILABLE", "no healthy upstream"): ServerBusy,
    ("UNAVAILABLE", "words of a Triton to come"): ServerBusy,
    ("RESOURCE_EXHAUSTED", "rate limited"): ServerBusy,
    ("INTERNAL", "Stub process 'cocoer_0_1' is not healthy."): ServerBusy,
    ("INTERNAL", "Failed to increase the shared memory pool size for key 'x' to 5 bytes."): ServerBusy,
    ("UNAVAILABLE", "Request timeout expired"): RequestTimeout,
    ("DEADLINE_EXCEEDED", "Deadline Exceeded"): RequestTimeout,
    ("NOT_FOUND", "Request for unknown model: 'cocoer' is not found"): ServerUnavailable,
    ("UNAVAILABLE", "Request for unknown model: 'cocoer' has no available versions"): ServerUnavailable,
    ("UNAVAILABLE", "Socket closed"): ServerUnavailable,
    ("UNAVAILABLE", "failed to connect to all addresses; last error: UNKNOWN: ..."): ServerUnavailable,
    ("INVALID_ARGUMENT", "IMAGE is short of memory, not ready, and is not found"): InvalidRequest,
    ("RESOURCE_EXHAUSTED", "CLIENT: Sent message larger than max (9 vs. 1)"): InvalidRequest,
    ("INTERNAL", "a file is not found; the model is not ready"): ServerError,
    ("UNAVAILABLE", "This protocol is restricted, expecting header 'x'"): ServerError,
    ("PERMISSION_DENIED", "RBAC: access denied"): ServerError,
    ("UNAUTHENTICATED", "who are you?"): ServerError,
    ("CANCELLED", "the request was cancelled"): ServerError,
}
"""gRPC's code, and the words with it -> what it is. The code decides; words only where a code means several things."""


@pytest.mark.parametrize(("status", "message"), CLASSES)
def test_the_class_of_a_failure(status, message):
    translated = client_of().translate(InferenceServerException(message, f"StatusCode.{status}"))
    assert type(translated) is CLASSES[status, message]


def test_handshakes_are_told_from_absent_servers():
    failure = InferenceServerException(
        "Ssl handshake failed: CERTIFICATE_VERIFY_FAILED\nmore", "StatusCode.UNAVAILABLE"
    )
    message = str(client_of().translate(failure))
    assert message.startswith("no secure connection to nowhere:1: does the server use TLS")
    assert "more" not in message


def test_pauses_grow_to_a_limit_and_are_scattered():
    pauses = backoff(12)
    assert all(pause <= MAX_PAUSE for pause in pauses)
    assert min(pauses[-5:]) >= MAX_PAUSE / 2
    assert len(set(pauses)) == 12


def test_tls_arguments(tmp_path):
    assert TLS().arguments() == {}
    assert TLS(tmp_path / "a", tmp_path / "b", tmp_path / "c").arguments() == {
        "root_certificates": str(tmp_path / "a"),
        "certificate_chain": str(tmp_path / "b"),
        "private_key": str(tmp_path / "c"),
    }
