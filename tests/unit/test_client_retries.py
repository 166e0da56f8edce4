"""What the client makes of a server's refusals, and when it asks again."""

import asyncio
import itertools
import json
import time

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from cocoer_client import (
    TLS,
    AsyncCocoerClient,
    CocoerClient,
    InvalidRequest,
    RequestTimeout,
    ServerBusy,
    ServerError,
    ServerLost,
    ServerUnavailable,
)
from cocoer_client.connection import FIRST_CONTACT, FIRST_PAUSE, MAX_PAUSE, backoff
from tests.fake_server import FakeServer

FULL = InferenceServerException("Exceeds maximum queue size", "StatusCode.UNAVAILABLE")
AWAY = InferenceServerException(
    "failed to connect to all addresses; last error: Connection refused", "StatusCode.UNAVAILABLE"
)


class Answer:
    def __init__(self, **result):
        self.result = result or {"persons": []}

    def as_numpy(self, name):
        return np.array([json.dumps(self.result).encode()], dtype=np.object_)


class FakeTriton:
    """Answers with what it is given, one after the other."""

    def __init__(self, *answers):
        self.answers, self.timeouts, self.parameters, self.request_ids = list(answers), [], [], []

    def infer(self, model_name, inputs, *, parameters, request_id, headers, client_timeout, timeout):
        self.timeouts.append((client_timeout, timeout))
        self.request_ids.append(request_id)
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
    with pytest.raises(ServerBusy, match="nowhere:1 is busy or restarting: Exceeds maximum queue size"):
        client.infer_raw(b"")
    assert len(client._client.timeouts) == 4


def test_options_that_are_given_are_sent(pauses):
    """Zero is a threshold; what is not given is the server's."""
    client = client_of(Answer())
    client.infer_raw(b"", final_threshold=0.0, level_threshold=None, timing=False)
    assert client._client.parameters == [{"final_threshold": 0.0}]


@pytest.fixture
def clock(monkeypatch):
    """A clock of its own, on which only pauses take time."""
    now = [100.0]

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    return now


def test_gives_up_when_the_time_is_over(clock):
    client = client_of(*[FULL] * 50, retries=50, timeout=5)
    with pytest.raises(ServerBusy):
        client.infer_raw(b"")
    assert 105 - MAX_PAUSE <= clock[0] < 105
    assert len(client._client.answers) > 40, "asked until the time was over, not as often as it might"


@pytest.mark.parametrize("refusal", [FULL, AWAY])
def test_defaults_outlast_a_server_that_starts_anew(refusal, clock):
    """It takes 7 to 13 s (docs/operations.md), here 20."""
    client = client_of(Answer(), *[refusal] * 99)
    client.infer_raw(b"")
    with pytest.raises(ServerUnavailable):
        client.infer_raw(b"")
    assert clock[0] > 130 - MAX_PAUSE
    client._client = FakeTriton(refusal, refusal, Answer())
    assert client.infer_raw(b"") == {"persons": []}


def test_nobody_there_from_the_beginning_is_told_soon(clock):
    """Unless the caller says how often to ask."""
    for begin, retries, seconds in (([], None, FIRST_CONTACT), ([FULL], None, 30), ([], 99, 30)):
        started, client = clock[0], client_of(*begin, *[AWAY] * 99, retries=retries)
        with pytest.raises(ServerUnavailable, match="no server at nowhere:1; start one with"):
            client.infer_raw(b"")
        assert seconds - MAX_PAUSE <= clock[0] - started < seconds


def test_each_try_has_the_request_id(pauses):
    client = client_of(FULL, Answer(), Answer())
    client.infer_raw(b"", request_id="page-7")
    client.infer_raw(b"")
    assert client._client.request_ids == ["page-7", "page-7", ""]
    assert client._client.parameters == [{}, {}, {}]  # it is none of them


def test_the_request_id_is_tritons_own():
    server = FakeServer(lambda image, now: {"error": {"code": "INVALID_ARG", "message": "no", "reason": "format"}})
    server.start()
    try:
        with CocoerClient(server.url) as client, pytest.raises(InvalidRequest):
            client.infer_raw(b"x", request_id="page-7", on_refusal="answer")
    finally:
        server.kill()
    assert server.last_request.id == "page-7"
    own = {name: value.string_param for name, value in server.last_request.parameters.items() if name != "timeout"}
    assert own == {"on_refusal": "answer"}


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        ({"code": "INVALID_ARG", "message": "IMAGE is empty", "reason": "empty"}, InvalidRequest, "empty"),
        (
            {"code": "INVALID_ARG", "message": "IMAGE is odd", "reason": "of a newer server"},
            InvalidRequest,
            "of a newer",
        ),
        ({"code": "UNAVAILABLE", "message": "short of memory", "reason": "memory"}, ServerBusy, None),
        ({"code": "INTERNAL", "message": "failed", "reason": "internal"}, ServerError, None),
        ({"code": "INVALID_ARG"}, ServerError, None),
    ],
)
@pytest.mark.parametrize("method", ["infer", "infer_raw"])
def test_an_error_in_the_place_of_a_result_is_raised(method, error, kind, reason):
    with pytest.raises(kind) as caught:
        getattr(client_of(Answer(error=error)), method)(b"", on_refusal="answer")
    assert type(caught.value) is kind
    assert (getattr(caught.value, "reason", None) or "").startswith(reason or "")
    assert error.get("message", "does not know") in str(caught.value)


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


CONNECTING = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: "
CLASSES = {
    ("UNAVAILABLE", "[request id: x] Exceeds maximum queue size"): ServerBusy,
    ("UNAVAILABLE", "the server is being started anew; try again in some seconds"): ServerBusy,
    ("UNAVAILABLE", "the server is short of memory for this image; try again later"): ServerBusy,
    ("UNAVAILABLE", "Server not ready"): ServerBusy,
    ("UNAVAILABLE", "no healthy upstream"): ServerBusy,
    ("UNAVAILABLE", "upstream request timeout"): ServerBusy,
    (
        "UNAVAILABLE",
        "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote "
        "connection failure, transport failure reason: delayed connect error: Connection refused",
    ): ServerBusy,
    (
        "UNAVAILABLE",
        "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure, transport "
        "failure reason: TLS_error: CERTIFICATE_VERIFY_FAILED",
    ): ServerBusy,
    ("UNAVAILABLE", "Received http2 header with status: 503"): ServerBusy,
    ("UNAVAILABLE", "service cocoer is not found or not ready"): ServerBusy,
    ("UNAVAILABLE", "words of a Triton to come"): ServerBusy,
    ("UNAVAILABLE", "Socket closed"): ServerLost,
    ("UNAVAILABLE", "recvmsg:Connection reset by peer (104)"): ServerLost,
    ("UNAVAILABLE", "ping timeout"): ServerBusy,
    (
        "UNAVAILABLE",
        "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
    ): ServerLost,
    ("UNKNOWN", "Stream removed"): ServerLost,
    ("ABORTED", "try again"): ServerBusy,
    ("RESOURCE_EXHAUSTED", "rate limited"): ServerBusy,
    ("INTERNAL", "Stub process 'cocoer_0_1' is not healthy."): ServerLost,
    ("INTERNAL", "Failed to increase the shared memory pool size for key 'x' to 5 bytes."): ServerBusy,
    ("UNAVAILABLE", "Request timeout expired"): RequestTimeout,
    ("DEADLINE_EXCEEDED", "Deadline Exceeded"): RequestTimeout,
    ("NOT_FOUND", "Request for unknown model: 'cocoer' is not found"): ServerUnavailable,
    ("UNAVAILABLE", "Request for unknown model: 'cocoer' has no available versions"): ServerUnavailable,
    ("UNAVAILABLE", CONNECTING + "Failed to connect to remote host: Connection refused"): ServerUnavailable,
    ("UNAVAILABLE", "errors resolving nowhere:1: [field:hostname lookup error:...]"): ServerUnavailable,
    ("UNAVAILABLE", "DNS resolution failed for nowhere:1: C-ares status is not ARES_SUCCESS"): ServerUnavailable,
    ("UNIMPLEMENTED", "Method not found!"): ServerUnavailable,
    ("UNIMPLEMENTED", "Received http2 header with status: 404"): ServerUnavailable,
    ("INVALID_ARGUMENT", "IMAGE is short of memory, not ready, and is not found"): InvalidRequest,
    ("RESOURCE_EXHAUSTED", "CLIENT: Sent message larger than max (9 vs. 1)"): InvalidRequest,
    ("FAILED_PRECONDITION", "exceeded request buffer limits while retrying upstream"): InvalidRequest,
    ("UNKNOWN", "Received http2 header with status: 413"): InvalidRequest,
    ("UNKNOWN", "Received http2 header with status: 302"): ServerError,
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


@pytest.mark.parametrize(("status", "message"), [key for key, kind in CLASSES.items() if kind is InvalidRequest])
def test_a_message_that_is_too_large_has_its_reason(status, message):
    error = client_of().translate(InferenceServerException(message, f"StatusCode.{status}"))
    assert error.reason == (None if status == "INVALID_ARGUMENT" else "bytes")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("Tls handshake failed (TSI_PROTOCOL_FAILURE): CERTIFICATE_VERIFY_FAILED\nmore", "no secure connection to"),
        ("Custom verification check failed: Hostname Verification Check failed.", "no secure connection to"),
        ("Socket closed", "is it the gRPC port (8001), does it want TLS"),
        ("Failed parsing HTTP/2 (Expected SETTINGS frame)", "is not Triton's gRPC port"),
        ("Failed to connect to remote host: Connection refused", "no server at nowhere:1; start one with"),
    ],
)
def test_where_no_connection_is_made_it_is_told_why(words, told):
    message = str(client_of().translate(InferenceServerException(CONNECTING + words, "StatusCode.UNAVAILABLE")))
    assert told in message
    assert "more" not in message


@pytest.mark.parametrize("method", ["infer", "infer_raw", "infer_batch", "infer_many", "model_info"])
def test_a_misspelt_option_fails_at_once(method):
    """Before an image is looked at, or an iteration begins; whatever else is wrong."""
    images = [] if method == "model_info" else [["absent.png"]]
    with pytest.raises(TypeError, match="no such option: treshold; there are final_threshold, level_threshold"):
        getattr(client_of(), method)(*images, treshold=0.5)

    async def ask():
        async with AsyncCocoerClient("nowhere:1") as client:
            asked = getattr(client, method)(*images, treshold=0.5)
            await asked

    with pytest.raises(TypeError, match="no such option: treshold"):
        asyncio.run(ask())


def test_no_concurrency():
    with pytest.raises(ValueError, match="concurrency must be 1 or more, got 0"):
        client_of().infer_many([], concurrency=0)


class SlowTriton:
    """For asyncio: refuses the first request, and answers no other."""

    def __init__(self):
        self.asked, self.cancelled, self.three = 0, 0, asyncio.Event()

    async def infer(self, **_):
        self.asked += 1
        if self.asked == 1:
            await self.three.wait()
            raise InferenceServerException("broken", "StatusCode.INTERNAL")
        if self.asked == 3:
            self.three.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # as a call that takes a moment to be cancelled
            self.cancelled += 1
            raise

    async def close(self):
        pass


def test_nothing_of_a_batch_that_raises_goes_on():
    async def ask():
        async with AsyncCocoerClient("nowhere:1") as client:
            await client._client.close()
            client._client = triton = SlowTriton()
            with pytest.raises(ServerError, match="broken"):
                await client.infer_batch([b"x"] * 17)
            assert (triton.asked, triton.cancelled) == (3, 2)

    asyncio.run(ask())


def test_pauses_grow_to_a_limit_and_are_scattered():
    pauses = list(backoff(12))
    assert all(pause <= MAX_PAUSE for pause in pauses)
    assert min(pauses[-5:]) >= MAX_PAUSE / 2
    assert len(set(pauses)) == 12
    assert all(pause <= MAX_PAUSE for pause in itertools.islice(backoff(None), 5000))


def test_tls_arguments(tmp_path):
    assert TLS().arguments() == {}
    assert TLS(tmp_path / "a", tmp_path / "b", tmp_path / "c").arguments() == {
        "root_certificates": str(tmp_path / "a"),
        "certificate_chain": str(tmp_path / "b"),
        "private_key": str(tmp_path / "c"),
    }
