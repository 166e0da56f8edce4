"""Sending what no honest client sends, and watching what it does to the server."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from benchmarks.machine import process_family, process_memory_mb
from cocoer_bls.options import DEFAULT_LIMITS
from export.publishing.configs import COCOER_INSTANCES
from serving.server import RunningServer, TritonServer
from tests.golden import TOLERANCE, logits_of
from tests.metrics import key, scrape, settled
from tests.waiting import until

NOBODY = np.zeros((1, 0, 8), dtype=np.float32)
"""PERSONS of an image that is to be decoded, and no more."""
INVALID, UNAVAILABLE = "StatusCode.INVALID_ARGUMENT", "StatusCode.UNAVAILABLE"
CANCELLED = "StatusCode.CANCELLED"
WAITING = key("nv_inference_pending_request_count", model="cocoer", version="1")
"""The gauge of requests that wait for ``cocoer``."""
MAX_CROWD = DEFAULT_LIMITS.max_persons
"""Persons of one image."""


def batch_inputs(images: Sequence[bytes], persons: np.ndarray | None = None) -> list[grpcclient.InferInput]:
    """IMAGE of several images, and PERSONS FP32 [images, N, 8] unless None."""
    tensor = grpcclient.InferInput("IMAGE", [len(images), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[image] for image in images], dtype=np.object_))
    if persons is None:
        return [tensor]
    boxes = grpcclient.InferInput("PERSONS", list(persons.shape), "FP32")
    boxes.set_data_from_numpy(persons)
    return [tensor, boxes]


def image_inputs(data: bytes, persons: np.ndarray | None) -> list[grpcclient.InferInput]:
    """The same of one image."""
    return batch_inputs([data], persons)


def send_all(
    server: RunningServer,
    files: Iterable[bytes],
    persons: np.ndarray | None = NOBODY,
    threads: int = 4,
    parameters: Sequence[Mapping[str, Any]] = ({},),
) -> Counter[str]:
    """Send files and count the answers: "result", or status and message of the refusal.

    Args:
        server: a running one.
        files: each is a request.
        persons: PERSONS FP32 [1, N, 8] of all; None: to be detected.
        threads: requests at a time.
        parameters: of the requests, in turn.
    """
    waiting, lock = zip(files, itertools.cycle(parameters)), threading.Lock()

    def work() -> Counter[str]:
        counts: Counter[str] = Counter()
        with grpcclient.InferenceServerClient(server.url) as client:
            while True:
                with lock:
                    data, asked = next(waiting, (None, {}))
                if data is None:
                    return counts
                counts[_answer_to(client, image_inputs(data, persons), asked)] += 1

    with ThreadPoolExecutor(threads) as pool:
        return sum((one.result() for one in [pool.submit(work) for _ in range(threads)]), Counter())


def _answer_to(client: Any, inputs: list[grpcclient.InferInput], asked: Mapping[str, Any]) -> str:
    try:
        answer = client.infer("cocoer", inputs, client_timeout=60, parameters=asked)
    except InferenceServerException as error:
        return f"{error.status()}: {error.message()}"
    content = json.loads(answer.as_numpy("RESULT")[0, 0])
    return "result" if set(content) == {"image", "persons", "labels", "model"} else f"strange: {content}"


def post(server: RunningServer, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and text of an HTTP answer."""
    request = urllib.request.Request(f"{server.http_url}/{path}", body, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


@dataclass
class Answer:
    """One asynchronous request; moments are ``time.monotonic``'s."""

    sent: float
    came: float = 0.0
    status: str = ""
    message: str = ""
    scores: list[float] = field(default_factory=list)
    """Of the first person, if there is one."""

    @property
    def seconds(self) -> float:
        return self.came - self.sent


class Sender:
    """Sends without waiting, and collects what comes back."""

    def __init__(self, url: str, inputs: list[grpcclient.InferInput], **options: Any) -> None:
        self.client, self.inputs, self.options = grpcclient.InferenceServerClient(url), inputs, options
        self.answers: list[Answer] = []
        self.calls: list[Any] = []
        self.open = threading.Semaphore(0)

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self._send()

    def _send(self) -> None:
        answer = Answer(time.monotonic())
        self.answers.append(answer)

        def done(result: Any, error: InferenceServerException | None) -> None:
            answer.came = time.monotonic()
            if error is not None:
                answer.status, answer.message = error.status(), error.message()
            else:
                persons = json.loads(result.as_numpy("RESULT")[0, 0])["persons"]
                answer.status, answer.scores = "OK", persons[0]["scores"]["pred"] if persons else []
            self.open.release()

        self.calls.append(self.client.async_infer("cocoer", self.inputs, done, **self.options))

    def cancel(self) -> None:
        for call in self.calls:
            call.cancel()

    def wait(self, timeout: float = 240) -> list[Answer]:
        """Until every request has its answer; that none stays without is part of what is tested."""
        for _ in self.answers:
            assert self.open.acquire(timeout=timeout), "a request has had no answer"
        self.client.close()
        return self.answers


def check_scores(answers: Iterable[Answer], logits: np.ndarray) -> None:
    """Assert that answers are the first person's."""
    for answer in answers:
        assert np.abs(logits_of(answer.scores) - logits).max() < TOLERANCE


@contextlib.contextmanager
def occupied(server: RunningServer, image: bytes, rows: np.ndarray) -> Iterator[Sender]:
    """A server whose instances of ``cocoer`` each work on a crowd during the block: what is sent meanwhile waits.

    At the end of the block the crowds are cancelled, unless they are done.

    Args:
        server: a running one.
        image: the crowds' image.
        rows: PERSONS FP32 [N, 8], repeated to as many as there may be.
    """
    settled(server)
    crowd = Sender(server.url, image_inputs(image, np.resize(rows, (1, MAX_CROWD, 8))))
    for busy in range(1, COCOER_INSTANCES + 1):
        crowd.send()
        wait_for(server, busy, key("cocoer_requests_running"))
    yield crowd
    crowd.cancel()
    assert {answer.status for answer in crowd.wait()} <= {"OK", CANCELLED}


def wait_for(server: RunningServer, count: float, series: tuple[str, tuple[tuple[str, str], ...]]) -> None:
    """Until a gauge of the server's has this value."""
    until(lambda: scrape(server).get(series, 0) == count, lambda: f"{series} is to be {count}")


def queued(server: RunningServer, count: int) -> None:
    """Until so many requests wait for ``cocoer``."""
    wait_for(server, count, WAITING)


@dataclass(frozen=True)
class Footprint:
    """What a server holds."""

    memory_mb: float
    files: int
    shared_mb: float

    @classmethod
    def of(cls, server: TritonServer) -> Footprint:
        """Of the launcher and all of its descendants; memory is PSS."""
        assert server.process is not None
        root = server.process.pid
        regions = Path("/dev/shm").glob(f"cocoer{root}_*")
        files = sum(map(_descriptors, process_family(root)))
        return cls(process_memory_mb(root), files, sum(one.stat().st_size for one in regions) / 1e6)


class Peaks:
    """The most memory (RSS) that each instance of ``cocoer`` takes from now on."""

    def __init__(self, server: TritonServer) -> None:
        assert server.process is not None
        family = process_family(server.process.pid)
        self.instances = [pid for pid in family if b"/cocoer/1/model.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(self.instances) == COCOER_INSTANCES, self.instances
        for pid in self.instances:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is what it has now
        self.before = self._peaks()

    def more_bytes(self) -> list[int]:
        """How much more than before each has taken at its peak."""
        return [peak - before for peak, before in zip(self._peaks(), self.before)]

    def _peaks(self) -> list[int]:
        found = (re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()) for pid in self.instances)
        return [1024 * int(match[1]) for match in found if match]


def _descriptors(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0
