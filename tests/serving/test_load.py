"""Load and time: queues, deadlines, cancellation, overload, a soak."""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from PIL import Image

from cocoer_bls.inputs import MAX_BATCH_PERSONS
from cocoer_client import CocoerClient, InvalidRequest, RequestTimeout, ServerBusy
from export.publishing.configs import MAX_QUEUE, MAX_WAIT_MICROSECONDS
from tests import golden as gold
from tests import hostile
from tests.metrics import settled
from tests.serving.test_served import (
    as_persons,
    assert_same_result,
    check_golden,
    results_of,
    served_count,
)
from tests.traffic import Footprint, batch_inputs, image_inputs

UNAVAILABLE = "StatusCode.UNAVAILABLE"


@dataclass
class Answer:
    """One asynchronous request."""

    sent: float
    seconds: float = 0.0
    status: str = ""
    message: str = ""
    scores: list[float] = field(default_factory=list)


class Sender:
    """Sends without waiting, and collects what comes back."""

    def __init__(self, url, inputs, **options):
        self.client, self.inputs, self.options = grpcclient.InferenceServerClient(url), inputs, options
        self.answers, self.calls, self.open = [], [], threading.Semaphore(0)

    def send(self):
        answer = Answer(time.monotonic())
        self.answers.append(answer)

        def done(result, error):
            answer.seconds = time.monotonic() - answer.sent
            if error is not None:
                answer.status, answer.message = error.status(), error.message()
            else:
                answer.status = "OK"
                answer.scores = json.loads(result.as_numpy("RESULT")[0, 0])["persons"][0]["scores"]["pred"]
            self.open.release()

        self.calls.append(self.client.async_infer("cocoer", self.inputs, done, **self.options))

    def wait(self, timeout=240):
        """Until every request has its answer; that none stays without is part of what is tested."""
        for _ in self.answers:
            assert self.open.acquire(timeout=timeout), "a request has had no answer"
        self.client.close()
        return self.answers


@pytest.fixture(scope="module")
def one_person(golden, sample_bytes):
    """Inputs for the first person of the golden image."""
    return image_inputs(sample_bytes, gold.person_rows(golden(0))[None, :1])


def check_scores(answers, golden):
    for answer in answers:
        p = np.array(answer.scores)
        assert np.abs(np.log(p / (1 - p)) - golden(0)["pred"][0]).max() < 2e-3


def by_reason(refused):
    """Those that the full queue refused, and those that waited in it for as long as they may."""
    full = [answer for answer in refused if "Exceeds maximum queue size" in answer.message]
    late = [answer for answer in refused if answer.message == "Request timeout expired"]
    assert len(full) + len(late) == len(refused)
    assert all(answer.seconds > 0.99e-6 * MAX_WAIT_MICROSECONDS for answer in late)  # 64 take a slow machine that long
    assert {answer.status for answer in refused} <= {UNAVAILABLE}
    return full, late


def test_a_full_queue_refuses_at_once(server, one_person, golden):
    sender = Sender(server.url, one_person)
    for _ in range(3 * MAX_QUEUE):
        sender.send()
    answers = sender.wait()
    done = [answer for answer in answers if answer.status == "OK"]
    refused = [answer for answer in answers if answer.status != "OK"]
    full, late = by_reason(refused)
    check_scores(done, golden)
    assert len(done) + len(late) >= MAX_QUEUE
    assert len(full) > MAX_QUEUE / 2
    assert max(answer.seconds for answer in full) < min(2.0, max(answer.seconds for answer in done))


def test_a_request_is_not_begun_after_its_time(server, one_person):
    """``timeout`` of a request, in microseconds: what has waited longer is refused instead of computed."""
    sender = Sender(server.url, one_person, timeout=700_000)
    for _ in range(40):
        sender.send()
    statuses = Counter((answer.status, answer.message) for answer in sender.wait())
    assert statuses["OK", ""] > 3
    assert statuses[UNAVAILABLE, "Request timeout expired"] > 10
    assert len(statuses) == 2


def rows_run(server, triton, model):
    """Rows a model has run, once nothing is queued or runs any more."""
    settled(server)
    return served_count(triton, model)


def test_cancelled_requests_cost_nothing_more(server, golden, sample_bytes):
    """Sixteen wait behind two large ones; all are cancelled: the sixteen are never begun, the two end early."""
    rows = np.resize(gold.person_rows(golden(0)), (1, 512, 8))
    crowd = Sender(server.url, image_inputs(sample_bytes, rows))
    queue = Sender(server.url, image_inputs(sample_bytes, rows[:, :6]))
    with grpcclient.InferenceServerClient(server.url) as triton:
        before = rows_run(server, triton, "head_encoder")
        for _ in range(2):
            crowd.send()
        time.sleep(1)
        for _ in range(16):
            queue.send()
        time.sleep(0.3)
        for call in [*crowd.calls, *queue.calls]:
            call.cancel()
        assert {answer.status for answer in [*crowd.wait(), *queue.wait()]} == {"StatusCode.CANCELLED"}
        ran = rows_run(server, triton, "head_encoder") - before
    # 128 persons are recognised at a time; what was under way when the cancellation came is finished.
    assert 0 < ran <= 2 * 256


def test_a_client_that_gives_up_is_told_so(server, one_person, golden, sample_bytes):
    with CocoerClient(server.url, timeout=0.03) as hasty, pytest.raises(RequestTimeout, match=r"within 0.03 s"):
        hasty.infer_raw(sample_bytes, as_persons(gold.person_rows(golden(0))))


def test_clients_try_again_where_the_queue_was_full(server, one_person, golden, sample_bytes):
    """While others fill the queue: without retries refused, with them answered."""
    persons = as_persons(gold.person_rows(golden(0))[:1])
    sender = Sender(server.url, one_person)
    for _ in range(2 * MAX_QUEUE):
        sender.send()
    time.sleep(0.1)
    with CocoerClient(server.url, retries=0) as impatient, pytest.raises(ServerBusy, match="is busy: .*queue size"):
        impatient.infer_raw(sample_bytes, persons)
    with CocoerClient(server.url, timeout=120, retries=8) as patient:
        result = patient.infer_raw(sample_bytes, persons)
    check_scores([Answer(0, scores=result["persons"][0]["scores"]["pred"])], golden)
    sender.wait()


def test_overload_at_ten_times_the_capacity(server, one_person, golden):
    """What is accepted is right and in time, the rest is refused fast, and then everything is as before."""
    with grpcclient.InferenceServerClient(server.url) as triton:
        times = []
        for _ in range(12):
            started = time.monotonic()
            triton.infer("cocoer", one_person)
            times.append(time.monotonic() - started)
    alone, seconds = float(np.median(times)), 12.0
    deadline = max(15.0, 100 * alone)  # a full queue is 64 requests, also on a slow machine
    rate = 10 / alone
    sender = Sender(server.url, one_person, client_timeout=deadline)
    started = time.monotonic()
    for index in range(int(rate * seconds)):
        time.sleep(max(0.0, started + index / rate - time.monotonic()))
        sender.send()
    answers = sender.wait()
    done = [answer for answer in answers if answer.status == "OK"]
    refused = [answer for answer in answers if answer.status != "OK"]
    with grpcclient.InferenceServerClient(server.url) as triton:
        recovered = time.monotonic()
        triton.infer("cocoer", one_person)
        recovered = time.monotonic() - recovered
    full, late = by_reason(refused)
    slowest = float(np.quantile([answer.seconds for answer in full], 0.99))
    print(
        f"overload: {rate:.0f} requests/s for {seconds:.0f} s, {rate * alone:.0f} times the capacity of one at a time: "
        f"{len(done)} answered ({len(done) / seconds:.1f}/s, slowest {max(a.seconds for a in done):.1f} s), "
        f"{len(full)} refused (99% within {1000 * slowest:.0f} ms), {len(late)} too late; "
        f"next request {1000 * recovered:.0f} ms, unloaded {1000 * alone:.0f} ms"
    )
    check_scores(done, golden)
    assert len(done) > 0.5 * seconds / alone
    assert max(answer.seconds for answer in done) < deadline
    assert slowest < 1.0
    assert recovered < 5 * alone + 0.2


class Traffic:
    """Requests of all kinds, each answer checked; what went wrong is kept."""

    def __init__(self, server, golden, sample_bytes):
        self.server, self.golden = server, golden(0)
        rows = gold.person_rows(self.golden)
        self.sample, self.rows = sample_bytes, rows
        self.small = hostile.save(Image.open("examples/astronaut.png").convert("RGB").resize((300, 280)), "JPEG")
        self.bad = [sample.data for sample in hostile.bad_samples() if len(sample.data) < 1_000_000]
        with CocoerClient(server.url) as client:
            self.detected = client.infer_raw(self.small)
        self.stop = threading.Event()
        self.latencies, self.problems = [], []

    def stretch(self):
        """Two calls of as many persons as one takes: buffers grow to the most that is ever needed, and stay."""
        sender = Sender(self.server.url, image_inputs(self.sample, np.resize(self.rows, (1, MAX_BATCH_PERSONS, 8))))
        for _ in range(2):
            sender.send()
        assert {answer.status for answer in sender.wait()} == {"OK"}

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
        p = np.array(result["persons"][0]["scores"]["pred"])
        assert np.abs(np.log(p / (1 - p)) - self.golden["pred"][index]).max() < 2e-3

    def crowd(self, client, triton, rng):
        check_golden(client.infer_raw(self.sample, as_persons(self.rows)), self.golden)

    def detect(self, client, triton, rng):
        assert_same_result(client.infer_raw(self.small), self.detected)

    def refused(self, client, triton, rng):
        with pytest.raises(InvalidRequest):
            client.infer_raw(self.bad[rng.integers(len(self.bad))])

    def batch(self, client, triton, rng):
        inputs = batch_inputs([self.sample, b"junk"], np.stack([self.rows] * 2))
        first, second = results_of(triton.infer("cocoer", inputs))
        check_golden(first, self.golden)
        assert second["error"]["code"] == "INVALID_ARG"


def test_soak(server, golden, sample_bytes, request, capsys):
    """Mixed traffic for a while: every answer right, no growth, as fast at the end as at the beginning."""
    seconds = request.config.getoption("--soak-seconds")
    traffic = Traffic(server, golden, sample_bytes)
    traffic.stretch()
    workers = [threading.Thread(target=traffic.run, args=(index,)) for index in range(4)]
    started = time.monotonic()
    for worker in workers:
        worker.start()
    time.sleep(seconds / 5)  # memory that is taken once, and kept
    before = Footprint.of(server)
    time.sleep(seconds * 4 / 5)
    after = Footprint.of(server)
    traffic.stop.set()
    for worker in workers:
        worker.join()
    thirds = [[], [], []]
    for moment, kind, elapsed in traffic.latencies:
        if kind != "refused":
            thirds[min(2, int(3 * (moment - started) / seconds))].append(elapsed)
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
    assert after.memory_mb < 1.03 * before.memory_mb
    assert after.files <= before.files + 2
    assert after.shared_mb <= before.shared_mb + 17  # pools grow in steps of 16 MiB
    assert p99[2] < 2.5 * p99[0]  # of a short run, nearly the slowest
