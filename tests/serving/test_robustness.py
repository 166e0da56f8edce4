"""What others have reported of Triton servers, tried with this one: each is survived, or its limit is documented."""

import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from PIL import Image

from cocoer_bls.inputs import MAX_BATCH_PERSONS
from cocoer_client import CocoerClient
from serving.endpoints import request_body
from serving.server import TritonServer
from tests import golden as gold
from tests import hostile
from tests.conftest import PROJECT, SAMPLE
from tests.metrics import settled
from tests.serving.test_served import as_persons
from tests.traffic import UNAVAILABLE, Answer, Footprint, Sender, check_scores, image_inputs
from tests.waiting import PATIENCE, until

INFER = "/v2/models/cocoer/infer"
EXIT_TIMEOUT = 10
ALONE = 8
"""Requests of each worker whose deadline is far, before those whose is near."""
LATE = "StatusCode.DEADLINE_EXCEEDED"
LONG = 300
"""Seconds of a soak from which memory is compared."""


@pytest.fixture(scope="module")
def fresh(repositories, tmp_path_factory):
    """A server that nobody has asked anything before the first test of this module."""
    log = tmp_path_factory.mktemp("fresh") / "log"
    with TritonServer(repositories("scrfd"), log, arguments=[f"--exit-timeout-secs={EXIT_TIMEOUT}"]) as running:
        yield running


def answers_right(server, expected, sample_bytes):
    with CocoerClient(server.url, timeout=PATIENCE, retries=100) as client:
        result = client.infer_raw(sample_bytes, as_persons(gold.person_rows(expected)[:1]))
    check_scores([Answer(0, scores=result["persons"][0]["scores"]["pred"])], expected["pred"][0])


def test_large_images_in_the_first_second(fresh, rng):
    """Four of 1.8 MB at once, when the server has just become ready."""
    pixels = rng.integers(0, 256, (780, 770, 3), dtype=np.uint8)
    data = hostile.save(Image.fromarray(pixels), "PNG")
    assert 1.8e6 < len(data) < 1.9e6
    with CocoerClient(fresh.url, timeout=PATIENCE, retries=0) as client, ThreadPoolExecutor(4) as pool:
        results = list(pool.map(client.infer_raw, [data] * 4))
    assert [result["image"]["width"] for result in results] == [770] * 4


def http_request(extra=""):
    """An inference as bytes of HTTP."""
    body, json_bytes = request_body()
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: {json_bytes}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_two_hundred_requests_cut_off(server, expected, sample_bytes):
    """Half of them over HTTP, by closing the connection; half over gRPC, by their deadline; after 50 ms each."""
    request = http_request()

    def cut_off(_):
        with socket.create_connection((server.host, server.http_port), timeout=60) as connection:
            connection.sendall(request)
            time.sleep(0.05)

    sender = Sender(server.url, image_inputs(sample_bytes, None), client_timeout=0.05)
    with ThreadPoolExecutor(8) as pool:
        sender.send(100)
        list(pool.map(cut_off, range(100)))
    statuses = Counter(answer.status for answer in sender.wait())
    assert set(statuses) <= {"OK", LATE, UNAVAILABLE}, statuses
    settled(server)
    answers_right(server, expected, sample_bytes)


def test_many_tiny_chunks(fresh, expected, sample_bytes):
    """65,536 chunks of a byte in one POST (CVE-2025-23310): this many are refused; the docs say who may reach 24.10."""
    with socket.create_connection(("127.0.0.1", fresh.http_port), timeout=60) as connection:
        connection.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        with contextlib.suppress(OSError):  # refused before all of it was sent
            connection.sendall(b"1\r\nx\r\n" * 65536 + b"0\r\n\r\n")
        answer = connection.recv(4096)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 500")), answer
    assert b"failed to parse the request JSON buffer" in answer
    assert fresh.process.poll() is None
    assert "starting the server anew" not in fresh.log.read_text()
    answers_right(fresh, expected, sample_bytes)


@pytest.fixture(scope="module")
def seconds(request):
    """How long to try what takes time to show itself."""
    soak = request.config.getoption("--soak-seconds")
    return soak / 2 if soak >= LONG else 1.0


def test_deadlines_near_the_median(server, expected, sample_bytes, seconds, capsys):
    """Half of the requests run out of time, in the queue, between stages, or with their answer on its way."""
    inputs = image_inputs(sample_bytes, gold.person_rows(expected)[None, :1])
    statuses, wrong = Counter(), []
    stop = threading.Event()

    def one(triton, deadline):
        started = time.monotonic()
        try:
            answer = triton.infer("cocoer", inputs, client_timeout=deadline, timeout=int(deadline * 1e6))
        except grpcclient.InferenceServerException as error:
            statuses[error.status() if error.status() == LATE else error.message()] += 1
        else:
            statuses["OK"] += 1
            (person,) = json.loads(answer.as_numpy("RESULT")[0, 0])["persons"]
            if np.abs(gold.logits_of(person["scores"]["pred"]) - expected["pred"][0]).max() >= gold.TOLERANCE:
                wrong.append(person)
        return time.monotonic() - started

    def ask(worker):
        chosen = np.random.default_rng(worker)
        with grpcclient.InferenceServerClient(server.url) as triton:
            times = [one(triton, PATIENCE) for _ in range(ALONE)]
            while not stop.is_set():
                times = [*times[-20:], one(triton, float(np.median(times) * chosen.uniform(0.7, 1.3)))]

    workers = [threading.Thread(target=ask, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    stop.wait(seconds)
    try:
        until(lambda: min(statuses["OK"] - 4 * ALONE, statuses.total() - statuses["OK"]) >= 5)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    settled(server)
    answers_right(server, expected, sample_bytes)
    with capsys.disabled():
        print(f"\ndeadlines near the median: {seconds:.0f} s, {dict(statuses)}, {len(wrong)} wrong")
    assert set(statuses) <= {"OK", LATE, "Request timeout expired"}
    assert wrong == []


@pytest.mark.needs("this_machine")
def test_crowds_of_random_sizes(server, expected, sample_bytes, seconds, rng, capsys):
    """1 to 128 persons an image: each size has buffers of its own somewhere; memory levels off."""
    rows = gold.person_rows(expected)

    def ask(count):
        sender = Sender(server.url, image_inputs(sample_bytes, np.resize(rows, (1, count, 8))))
        sender.send()
        answers = sender.wait()
        assert [answer.status for answer in answers] == ["OK"]
        check_scores(answers, expected["pred"][0])

    ask(MAX_BATCH_PERSONS)
    memory, started, sizes = [], time.monotonic(), 0
    while time.monotonic() < started + seconds or sizes < 3:
        ask(int(rng.integers(1, MAX_BATCH_PERSONS + 1)))
        sizes += 1
        memory.append((time.monotonic() - started, Footprint.of(server)))
    third = next(footprint for moment, footprint in memory if moment > seconds / 3 or moment == memory[-1][0])
    last = memory[-1][1]
    with capsys.disabled():
        print(
            f"\ncrowds of random sizes: {seconds:.0f} s, {sizes} images; memory after a third "
            f"{third.memory_mb:.0f}, in the end {last.memory_mb:.0f} MB; shared memory {third.shared_mb:.0f}, "
            f"{last.shared_mb:.0f} MB"
        )
    if seconds >= LONG / 2:
        assert last.memory_mb < 1.03 * third.memory_mb
    assert last.shared_mb <= third.shared_mb + 17  # pools grow in steps of 16 MiB


FILLED = """
import json, os, sys
from pathlib import Path
from cocoer_client import CocoerClient, CocoerError
from serving.server import TritonServer

image, crowd = Path(sys.argv[3]).read_bytes(), [{"body": [84, 20, 363, 512], "head": [177, 67, 270, 160]}] * 48

def ask(persons):
    with CocoerClient(server.url, timeout=600, retries=0) as client:
        try:
            return len(client.infer_raw(image, persons)["persons"])
        except CocoerError as error:
            return f"{type(error).__name__}: {error}"

with TritonServer(Path(sys.argv[1]), Path(sys.argv[2])) as server:
    told = [ask(crowd[:1])]
    room = os.statvfs("/dev/shm")
    with open("/dev/shm/filler", "wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, room.f_bavail * room.f_frsize)
    told += [ask(crowd), ask(crowd), ask(crowd[:1]), server.is_ready()]
    os.unlink("/dev/shm/filler")
    told += [ask(crowd), ask(crowd[:1])]
print(json.dumps([*told, server.process.returncode, os.listdir("/dev/shm")]))
"""


@pytest.mark.needs("model_processes")
def test_a_full_dev_shm(repositories, tmp_path):
    """With a /dev/shm of its own, as large as Docker's: what has no room is refused, and then all is as before."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a mount namespace (unshare -rm)")
    mount = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    command = [sys.executable, "-c", FILLED, repositories("scrfd"), tmp_path / "log", SAMPLE]
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", *command],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 0, run.stderr
    alone, *crowds, small, ready, after, small_after, code, left = json.loads(run.stdout)
    assert (alone, after, small_after) == (1, 48, 1)
    for refused in (*crowds, *([] if small == 1 else [small])):  # what is there already may do for a single person
        assert refused.startswith("ServerBusy: "), refused
        assert "short of" in refused
    assert (ready, code, left) == (True, 0, [])


def test_sigterm_under_keep_alive_http(fresh):
    """Callers who keep their connections, one of them silent: all are answered, and none holds the server up.

    The last of this module: it ends the server.
    """
    body, json_bytes = request_body()
    headers = {"Inference-Header-Content-Length": str(json_bytes)}
    asked = threading.Barrier(3)
    lost, answered = Counter(), Counter()

    def ask(worker):
        connection = http.client.HTTPConnection("127.0.0.1", fresh.http_port, timeout=60)
        while not lost[worker]:
            try:
                connection.request("POST", INFER, body, headers)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200
                answered[worker] += 1
            except (OSError, http.client.HTTPException):
                lost[worker] += 1
                connection.close()
            if answered[worker] == 2:
                asked.wait(PATIENCE)
            time.sleep(0.5)

    silent = http.client.HTTPConnection("127.0.0.1", fresh.http_port, timeout=60)
    silent.request("GET", "/v2/health/live")
    silent.getresponse().read()
    workers = [threading.Thread(target=ask, args=(index,)) for index in range(2)]
    for worker in workers:
        worker.start()
    asked.wait(PATIENCE)
    fresh.process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    code = fresh.process.wait(PATIENCE)
    print(f"keep-alive: ended with {code} after {time.monotonic() - started:.1f} s; {dict(answered)} answered")
    for worker in workers:
        worker.join()
    silent.close()
    assert code == 0
    assert "all they asked is answered: they are cut off" in fresh.log.read_text()
    assert min(answered.values()) > 2
