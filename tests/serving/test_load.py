"""Load and time: queues, deadlines, cancellation, overload, a soak."""

import threading
import time
from collections import Counter

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from PIL import Image

from cocoer_bls.inputs import MAX_BATCH_PERSONS
from cocoer_client import CocoerClient, InvalidRequest, RequestTimeout, ServerBusy
from export.publishing.configs import MAX_QUEUE
from tests import golden as gold
from tests import hostile
from tests.conftest import SAMPLE
from tests.metrics import settled
from tests.serving.test_served import as_persons, assert_same_result, check_result, results_of, served_count
from tests.traffic import (
    CANCELLED,
    UNAVAILABLE,
    Answer,
    Footprint,
    Sender,
    batch_inputs,
    check_scores,
    image_inputs,
    occupied,
    queued,
)

pytestmark = pytest.mark.needs("cpu_build")

LONG = 300
"""Seconds from which a soak's times are compared: those of a shorter one are of a few requests."""
SETTLING, MAX_GROWTH = 8.0, 1.2
"""Seconds of traffic after which memory at rest goes up and down by a twentieth, as over a minute; four times that."""


@pytest.fixture(scope="module")
def rows(expected):
    """PERSONS FP32 [6, 8]."""
    return gold.person_rows(expected)


@pytest.fixture(scope="module")
def one_person(rows, sample_bytes):
    """Inputs for the first of them."""
    return image_inputs(sample_bytes, rows[None, :1])


def by_reason(answers):
    """Those that were answered, those that the full queue refused, and those that waited in it for too long."""
    done = [answer for answer in answers if answer.status == "OK"]
    full = [answer for answer in answers if "Exceeds maximum queue size" in answer.message]
    late = [answer for answer in answers if answer.message == "Request timeout expired"]
    assert {answer.status for answer in (*full, *late)} <= {UNAVAILABLE}
    assert len(done) + len(full) + len(late) == len(answers)
    return done, full, late


def test_a_full_queue_refuses_at_once(server, one_person, rows, expected, sample_bytes):
    """As many wait as the queue holds, and are answered; the rest has been refused before the first of them is."""
    with occupied(server, sample_bytes, rows):
        sender = Sender(server.url, one_person)
        sender.send(3 * MAX_QUEUE)
    done, full, late = by_reason(sender.wait())
    assert (len(done), len(full), len(late)) == (MAX_QUEUE, 2 * MAX_QUEUE, 0)
    check_scores(done, expected["pred"][0])
    assert max(answer.came for answer in full) < min(answer.came for answer in done)


def test_a_request_is_not_begun_after_its_time(server, one_person, rows, sample_bytes):
    """``timeout`` of a request, in microseconds: what has waited longer is refused instead of computed."""
    with grpcclient.InferenceServerClient(server.url) as triton:
        before = served_count(triton, "vi_head")
        with occupied(server, sample_bytes, rows):
            sender = Sender(server.url, one_person, timeout=100_000)
            sender.send(20)
            time.sleep(0.2)  # what is timed is the server's clock, which no state of ours can stand for
        done, full, late = by_reason(sender.wait())
        settled(server)
        assert (len(done), len(full), len(late)) == (0, 0, 20)
        crowds = served_count(triton, "vi_head") - before
    assert crowds <= 2 * 4  # those that kept the server busy, 128 persons at a time


def test_cancelled_requests_cost_nothing_more(server, rows, sample_bytes):
    """Sixteen wait behind two crowds; all are cancelled: the sixteen are never begun, the two end early."""
    with grpcclient.InferenceServerClient(server.url) as triton:
        settled(server)
        before = served_count(triton, "head_encoder")
        with occupied(server, sample_bytes, rows) as crowd:
            waiting = Sender(server.url, image_inputs(sample_bytes, rows[None]))
            waiting.send(16)
            queued(server, 16)
            crowd.cancel()
            waiting.cancel()
            assert {answer.status for answer in [*crowd.wait(), *waiting.wait()]} == {CANCELLED}
            crowd.answers.clear()
        settled(server)
        ran = served_count(triton, "head_encoder") - before
    # 128 persons are recognised at a time; what was under way when the cancellation came is finished.
    assert 0 < ran <= 2 * 256


def test_a_client_that_gives_up_is_told_so(server, rows, sample_bytes):
    with (
        occupied(server, sample_bytes, rows),
        CocoerClient(server.url, timeout=0.2) as hasty,
        pytest.raises(RequestTimeout, match=r"within 0.2 s"),
    ):
        hasty.infer_raw(sample_bytes, as_persons(rows))


def test_clients_try_again_where_the_queue_was_full(server, one_person, rows, expected, sample_bytes):
    """While others fill the queue: without retries refused, with them answered."""
    persons = as_persons(rows[:1])
    with occupied(server, sample_bytes, rows):
        sender = Sender(server.url, one_person)
        sender.send(MAX_QUEUE)
        queued(server, MAX_QUEUE)
        with (
            CocoerClient(server.url, retries=0) as impatient,
            pytest.raises(ServerBusy, match="is busy or restarting: .*queue size"),
        ):
            impatient.infer_raw(sample_bytes, persons)
    with CocoerClient(server.url, timeout=120, retries=8) as patient:
        result = patient.infer_raw(sample_bytes, persons)
    check_scores([Answer(0, scores=result["persons"][0]["scores"]["pred"])], expected["pred"][0])
    done, _, _ = by_reason(sender.wait())
    assert len(done) == MAX_QUEUE


def test_overload_at_ten_times_the_capacity(server, one_person, expected):
    """What is accepted is right, the rest is told why, and then everything is as before."""
    with grpcclient.InferenceServerClient(server.url) as triton:
        times = []
        for _ in range(12):
            started = time.monotonic()
            triton.infer("cocoer", one_person)
            times.append(time.monotonic() - started)
    alone, count = float(np.median(times)), 10 * MAX_QUEUE
    sender = Sender(server.url, one_person)
    started = time.monotonic()
    for index in range(count):
        time.sleep(max(0.0, started + index * alone / 10 - time.monotonic()))
        sender.send()
    answers = sender.wait()
    seconds = max(answer.came for answer in answers) - started
    done, full, late = by_reason(answers)
    settled(server)
    with grpcclient.InferenceServerClient(server.url) as triton:
        triton.infer("cocoer", one_person)
    slowest = float(np.quantile([answer.seconds for answer in full], 0.99))
    print(
        f"overload: {count} requests, ten times as fast as one at a time is answered ({1000 * alone:.0f} ms): "
        f"{len(done)} answered ({len(done) / seconds:.1f}/s), {len(full)} refused "
        f"(99% within {1000 * slowest:.0f} ms), {len(late)} too late"
    )
    check_scores(done, expected["pred"][0])
    assert len(done) + len(late) >= MAX_QUEUE
    assert len(full) > count / 4
    assert slowest < float(np.median([answer.seconds for answer in done]))  # a refusal does not wait in the queue


class Traffic:
    """Requests of all kinds, each answer checked; what went wrong is kept."""

    def __init__(self, server, expected, sample_bytes):
        self.server, self.expected = server, expected
        rows = gold.person_rows(self.expected)
        self.sample, self.rows = sample_bytes, rows
        self.small = hostile.save(Image.open(SAMPLE).convert("RGB").resize((300, 280)), "JPEG")
        self.bad = [sample.data for sample in hostile.bad_samples() if len(sample.data) < 1_000_000]
        with CocoerClient(server.url) as client:
            self.detected = client.infer_raw(self.small)
        self.stop = threading.Event()
        self.latencies, self.problems = [], []

    def stretch(self):
        """Two calls of as many persons as one takes: buffers grow to what is ever needed, and stay."""
        sender = Sender(self.server.url, image_inputs(self.sample, np.resize(self.rows, (1, MAX_BATCH_PERSONS, 8))))
        sender.send(2)
        assert {answer.status for answer in sender.wait()} == {"OK"}

    def footprint_after(self, seconds):
        """What the server holds once so much traffic is answered."""
        self.stop.clear()
        workers = [threading.Thread(target=self.run, args=(index,)) for index in range(4)]
        for worker in workers:
            worker.start()
        time.sleep(seconds)
        self.stop.set()
        for worker in workers:
            worker.join()
        return Footprint.of(self.server)

    def run(self, worker):
        rng = np.random.default_rng(worker)
        with CocoerClient(self.server.url) as client, grpcclient.InferenceServerClient(self.server.url) as triton:
            kinds = [self.person, self.person, self.crowd, self.detect, self.refused, self.refused, self.batch]
            while not self.stop.is_set():
                kind = kinds[rng.integers(len(kinds))]
                started = time.monotonic()
                try:
                    kind(client, triton, rng)
                except Exception as error:
                    self.problems.append(f"{kind.__name__}: {error!r}")
                self.latencies.append((started, kind.__name__, time.monotonic() - started))

    def person(self, client, triton, rng):
        index = rng.integers(len(self.rows))
        result = client.infer_raw(self.sample, as_persons(self.rows[index : index + 1]))
        logits = gold.logits_of(result["persons"][0]["scores"]["pred"])
        assert np.abs(logits - self.expected["pred"][index]).max() < gold.TOLERANCE

    def crowd(self, client, triton, rng):
        check_result(client.infer_raw(self.sample, as_persons(self.rows)), self.expected)

    def detect(self, client, triton, rng):
        assert_same_result(client.infer_raw(self.small), self.detected)

    def refused(self, client, triton, rng):
        with pytest.raises(InvalidRequest):
            client.infer_raw(self.bad[rng.integers(len(self.bad))])

    def batch(self, client, triton, rng):
        inputs = batch_inputs([self.sample, b"junk"], np.stack([self.rows] * 2))
        first, second = results_of(triton.infer("cocoer", inputs))
        check_result(first, self.expected)
        assert second["error"]["code"] == "INVALID_ARG"


@pytest.mark.needs("this_machine")
def test_soak(server, expected, sample_bytes, request, capsys):
    """Mixed traffic for a while: every answer right, no growth, as fast at the end as at the beginning."""
    seconds = request.config.getoption("--soak-seconds")
    traffic = Traffic(server, expected, sample_bytes)
    traffic.stretch()
    started = time.monotonic()
    # At rest: a crowd that is being recognised takes memory, and gives it back. Not before the heap, which that leaves
    # in pieces, has found its size.
    before, after = (traffic.footprint_after(stretch) for stretch in (max(SETTLING, seconds / 5), seconds * 4 / 5))
    total = time.monotonic() - started
    thirds = [[], [], []]
    for moment, kind, elapsed in traffic.latencies:
        if kind != "refused":
            thirds[min(2, int(3 * (moment - started) / total))].append(elapsed)
    p99 = [float(np.quantile(third, 0.99)) for third in thirds]
    kinds = Counter(kind for _, kind, _ in traffic.latencies)
    with capsys.disabled():
        print(
            f"\nsoak: {seconds:.0f} s, {len(traffic.latencies)} requests ({dict(kinds)}), "
            f"{len(traffic.problems)} wrong; memory {before.memory_mb:.0f} -> {after.memory_mb:.0f} MB, "
            f"files {before.files} -> {after.files}, shared memory {before.shared_mb:.0f} -> {after.shared_mb:.0f} MB; "
            f"p99 of each third {', '.join(f'{1000 * value:.0f}' for value in p99)} ms"
        )
    assert traffic.problems == []
    assert min(kinds.values()) > seconds / 20
    assert after.memory_mb < MAX_GROWTH * before.memory_mb
    assert after.files <= before.files + 2
    # Each process has a pool that grows in steps of 16 MiB; in a short time, another one may have to.
    assert after.shared_mb <= before.shared_mb + (17 if seconds >= LONG else 34)
    if seconds >= LONG:
        assert p99[2] < 2.5 * p99[0]
