"""Hostile input to a real server: whatever comes, each gets a result or a clear refusal, and the server stays."""

import contextlib
import itertools
import json
import random
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from PIL import Image
from tritonclient.utils import InferenceServerException

from cocoer_bls.inputs import MAX_BATCH_IMAGES
from cocoer_bls.options import DEFAULT_LIMITS
from export.publishing.configs import COCOER_INSTANCES
from tests import golden as gold
from tests import hostile
from tests.golden import TOLERANCE
from tests.serving.test_served import check_result, results_of
from tests.traffic import INVALID, NOBODY, Footprint, Peaks, batch_inputs, image_inputs, post, send_all
from tests.waiting import until

INFER = "v2/models/cocoer/infer"


@pytest.fixture(autouse=True)
def still_serving(server, client, expected, sample_bytes):
    """After each of these tests the server is ready, and its answers are right."""
    yield
    client.check_ready()
    rows = gold.person_rows(expected)[:1]
    result = client.infer_raw(sample_bytes, [{"body": rows[0, :4].tolist(), "head": rows[0, 4:].tolist()}])
    assert result["persons"][0]["body_box"] == expected["body_box"][0].tolist()
    assert np.abs(gold.logits_of(result["persons"][0]["scores"]["pred"]) - expected["pred"][0]).max() < TOLERANCE


def test_corpus(server):
    """Every file of the corpus gets what it deserves, also where it is to be decoded fast."""
    for sample, fast in itertools.product([*hostile.good_samples(), *hostile.bad_samples()], (False, True)):
        (answer,) = send_all(server, [sample.data], threads=1, parameters=[{"fast_decode": fast}])
        expected = "result" if sample.verdict == hostile.GOOD else INVALID
        assert answer.startswith(expected), f"{sample.name}: {answer}"
        assert "/" not in answer.replace("JPEG/PNG", ""), answer


DECODED = ({}, {"fast_decode": True}, {"on_damage": "accept"}, {"fast_decode": True, "on_damage": "accept"})
"""Parameters: each way to have a file decoded."""


@pytest.mark.needs("this_machine")
def test_mutated_files(server, request):
    """Thousands of damaged files: a result or INVALID_ARGUMENT each, and nothing is left behind."""
    count, seed = request.config.getoption("--fuzz-inputs"), request.config.getoption("--fuzz-seed")
    files = hostile.mutations(seed)
    send_all(server, itertools.islice(files, 300), parameters=DECODED)  # memory that is taken once, and kept
    before, started = Footprint.of(server), time.monotonic()
    answers = send_all(server, itertools.islice(files, count), parameters=DECODED)
    after, seconds = Footprint.of(server), time.monotonic() - started
    results = answers.pop("result")
    print(
        f"fuzz: {count} mutated files in {seconds:.0f} s (seed {seed}): {results} results, {answers.total()} refusals; "
        f"memory {before.memory_mb:.0f} -> {after.memory_mb:.0f} MB, files {before.files} -> {after.files}, "
        f"shared memory {before.shared_mb:.1f} -> {after.shared_mb:.1f} MB"
    )
    assert all(answer.startswith(INVALID) for answer in answers), answers
    assert results + answers.total() == count
    assert min(results, answers.total()) > count / 10
    # Sizes in damaged headers vary widely, and glibc keeps on its heap what was there of blocks below 32 MB: in each
    # decoding process up to what the largest image takes, however many files come.
    assert after.memory_mb < before.memory_mb + COCOER_INSTANCES * 4 * DEFAULT_LIMITS.max_batch_pixels / 1e6
    assert after.files <= before.files + 4
    assert after.shared_mb <= before.shared_mb + 1


@pytest.mark.needs("this_machine")
def test_nothing_leaks(server):
    """The same file again and again, good and bad: not a kilobyte stays behind."""
    good = hostile.save(hostile.image(), "JPEG")
    for files in ([good] * 1000, [b"junk"] * 1000):
        send_all(server, files)
    before = Footprint.of(server)
    assert send_all(server, [good] * 6000) == {"result": 6000}
    (refusals,) = send_all(server, [b"junk"] * 6000).values()
    after = Footprint.of(server)
    print(f"leaks: 12000 requests, memory {before.memory_mb:.1f} -> {after.memory_mb:.1f} MB")
    assert refusals == 6000
    assert after.memory_mb < before.memory_mb + 6
    assert after.files <= before.files + 4  # eight connections have come and gone; one may still be closing


@pytest.mark.needs("scrfd")
def test_mutated_files_through_detection(server):
    """What is decoded goes through the detectors as well: nobody is found in noise, or somebody; nothing fails."""
    answers = send_all(server, itertools.islice(hostile.mutations(seed=7), 80), persons=None, parameters=DECODED)
    assert answers.pop("result") > 5
    assert all(answer.startswith(INVALID) for answer in answers), answers


NAN, INF = float("nan"), float("inf")
GOOD = [84, 20, 363, 512, 177, 67, 270, 160]


@pytest.mark.parametrize(
    "rows",
    [
        [[NAN] * 8],
        [[INF] * 8],
        [[-INF, -INF, INF, INF] * 2],
        [[3.4e38] * 8],
        [[-3.4e38, -3.4e38, 3.4e38, 3.4e38, -5, -5, -1, -1]],
        [[363, 512, 84, 20, *GOOD[4:]]],
        [[84, 20, 84, 20, *GOOD[4:]]],
        [[0.4, 0.4, 0.49, 0.49, *GOOD[4:]]],
        [[512, 512, 513, 513, *GOOD[4:]]],
        [GOOD] * 5000,
        [GOOD, GOOD, [NAN] * 8],
    ],
)
def test_bad_boxes(server, sample_bytes, rows):
    (answer,) = send_all(server, [sample_bytes], np.array([rows], dtype=np.float32), threads=1)
    assert answer.startswith(f"{INVALID}: PERSONS"), answer
    assert len(answer) < 300


@pytest.mark.parametrize(
    "row", [[-1e30, -1e30, 1e30, 1e30] * 2, [-0.4, -0.4, 1, 1, 0, 0, 1, 1], [511, 511, 512, 512] * 2]
)
def test_extreme_boxes_that_hold_a_pixel(server, sample_bytes, row):
    assert send_all(server, [sample_bytes], np.array([[row]], dtype=np.float32)) == {"result": 1}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"final_threshold": "0.5"}, "final_threshold must be a number from 0 to 1, got '0.5'"),
        ({"final_threshold": True}, "final_threshold must be a number"),
        ({"min_score": 2**62}, "min_score must be a number from 0 to 1"),
        ({"min_score": -1}, "min_score must be a number from 0 to 1, got -1"),
        ({"timing": 1}, "timing must be true or false"),
        ({"on_damage": "repair"}, "on_damage must be refuse or accept, got 'repair'"),
        ({"on_refusal": "answer it"}, "on_refusal must be fail or answer, got 'answer it'"),
        ({"on_refusal": True, "min_score": 7}, "on_refusal must be fail or answer, got True"),
        ({"x" * 100_000: 1}, "unknown request parameter xxx"),
        ({f"p{i}": 1 for i in range(1000)}, "unknown request parameter p0, p1, p10, ...;"),
        ({"a\nE1123 forged log line": 1}, "unknown request parameter"),
    ],
)
def test_bad_parameters(server, sample_bytes, parameters, message):
    with grpcclient.InferenceServerClient(server.url) as triton, pytest.raises(InferenceServerException) as caught:
        triton.infer("cocoer", image_inputs(sample_bytes, NOBODY), parameters=parameters)
    assert caught.value.status() == INVALID
    assert message in caught.value.message()
    assert len(caught.value.message()) < 300


@pytest.mark.needs("this_machine")
@pytest.mark.parametrize("on_refusal", ["fail", "answer"])
def test_log_is_one_line_for_each_failure(server, sample_bytes, on_refusal):
    """JSON with the request's id; what the caller sent can't start a line of its own, and success says nothing.

    However the caller is told.
    """
    before = len(server.log.read_bytes())
    with grpcclient.InferenceServerClient(server.url) as triton:
        triton.infer("cocoer", image_inputs(sample_bytes, NOBODY), request_id="fine")
        parameters = {"on_refusal": on_refusal}
        with pytest.raises(InferenceServerException) if on_refusal == "fail" else contextlib.nullcontext():
            triton.infer("cocoer", image_inputs(b"junk", None), request_id="evil\nE1123 forged", parameters=parameters)
    until(lambda: server.log.read_bytes()[before:].endswith(b"\n"))
    (line,) = server.log.read_bytes()[before:].decode().splitlines()
    # Triton writes messages as JSON strings.
    content = json.loads(json.loads(line.partition("] ")[2]))
    assert content == {
        "model": "cocoer",
        "event": "rejected",
        "request_id": "evil\nE1123 forged",
        "image": 0,
        "code": "INVALID_ARG",
        "reason": "format",
        "message": "IMAGE is not an image in JPEG, PNG, WebP or BMP format",
    }


def json_request(**changes):
    tensor = {"name": "IMAGE", "shape": [1, 1], "datatype": "BYTES", "data": ["junk"], **changes}
    return json.dumps({"inputs": [tensor]}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"inputs": 5}',
        b'{"inputs": [{}]}',
        b'{"inputs": []}',
        b"{" * 5000,
        b'{"inputs": [{"name": "IMAGE", "shape": [1, 1], "datatype": "BYTES"}]}',
        json_request(),
        json_request(name="IMAGES"),
        json_request(datatype="FP32"),
        json_request(datatype="NONSENSE"),
        json_request(shape=[-1, 1]),
        json_request(shape=[2**40, 1]),
        json_request(shape=[0, 1]),
        json_request(shape=[9, 1], data=["x"] * 9),
        json_request(shape=[1], data=["x"]),
        json_request(data=[[["x"]]] * 7),
        json_request(data=[5]),
        json_request(parameters={"binary_data_size": 10**9}),
        json_request(parameters={"shared_memory_region": "x", "shared_memory_byte_size": 5}),
        random.Random(0).randbytes(5000),
    ],
)
def test_json_garbage(server, body):
    status, text = post(server, INFER, body, {"Content-Type": "application/json"})
    # 500 is what Triton's own frontend says of JSON that it can't parse.
    assert 400 <= status <= 500, (status, text)
    assert json.loads(text)["error"]
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("header_length", "tensor"),
    [
        ("5", b"x"),
        ("99999999", b"x"),
        ("-1", b"x"),
        ("many", b"x"),
        (None, struct.pack("<I", 2**31) + b"x"),
        (None, struct.pack("<I", 0)),
        (None, b"\x01"),
        (None, b""),
    ],
)
def test_binary_lengths_that_lie(server, header_length, tensor):
    """HTTP's binary extension: a header length and a length before each string."""
    head = json_request(parameters={"binary_data_size": len(tensor)}).replace(b'"data": ["junk"], ', b"")
    length = str(len(head)) if header_length is None else header_length
    status, text = post(server, INFER, head + tensor, {"Inference-Header-Content-Length": length})
    assert 400 <= status <= 500, (status, text)


def test_grpc_garbage(server):
    """Bytes that are no gRPC on gRPC's port, and no HTTP on HTTP's."""
    noise = random.Random(1)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for port in (server.grpc_port, server.http_port):
        for _ in range(50):
            with socket.create_connection((server.host, port), timeout=10) as connection:
                connection.sendall(
                    (preface if noise.random() < 0.5 else b"") + noise.randbytes(noise.randrange(1, 3000))
                )


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([], None),
        (["IMAGE", "IMAGE"], None),
        (["NAME"], None),
        (["IMAGE"], ["RESULT", "NONSENSE"]),
    ],
)
def test_grpc_requests_that_make_no_sense(server, inputs, outputs):
    tensors = [grpcclient.InferInput(name, [1, 1], "BYTES") for name in inputs]
    for tensor in tensors:
        tensor.set_data_from_numpy(np.array([[b"x"]], dtype=np.object_))
    wanted = None if outputs is None else [grpcclient.InferRequestedOutput(name) for name in outputs]
    with grpcclient.InferenceServerClient(server.url) as triton, pytest.raises(InferenceServerException) as caught:
        triton.infer("cocoer", tensors, outputs=wanted)
    assert caught.value.status() == INVALID


def test_models_behind_survive_what_is_sent_to_them_directly(server):
    """An index that points nowhere, to a model that trusts its caller: an error, not a crash."""
    index = grpcclient.InferInput("image_index", [1, 1], "INT64")
    index.set_data_from_numpy(np.array([[2**40]], dtype=np.int64))
    with grpcclient.InferenceServerClient(server.url) as triton, pytest.raises(InferenceServerException) as caught:
        triton.infer("context_gather", [index])
    assert "/" not in caught.value.message()


def test_a_failing_image_fails_alone(server, expected, sample_bytes):
    """Each way to fail, between two images that are fine."""
    rows = gold.person_rows(expected)
    bad = {sample.name: sample.data for sample in hostile.bad_samples()}
    for name in ("nothing", "JPEG cut short", "PNG of 50,000 squared", "JPEG of 200 scans", "40 MB of noise"):
        with grpcclient.InferenceServerClient(server.url) as triton:
            answer = triton.infer("cocoer", batch_inputs([sample_bytes, bad[name], sample_bytes], np.stack([rows] * 3)))
        first, second, third = results_of(answer)
        check_result(first, expected)
        check_result(third, expected)
        assert second["error"]["code"] == "INVALID_ARG", name


def test_a_damaged_image_is_refused_or_marked(server):
    """A JPEG that ends too early, with an end marker: refused, and with ``on_damage`` answered and marked."""
    whole = hostile.save(hostile.image(), "JPEG")
    data = whole[:-300] + b"\xff\xd9"
    with grpcclient.InferenceServerClient(server.url) as triton:
        with pytest.raises(InferenceServerException, match="IMAGE is damaged: its image data ends too early"):
            triton.infer("cocoer", image_inputs(data, NOBODY))
        answers = [
            triton.infer("cocoer", image_inputs(image, NOBODY), parameters={"on_damage": "accept"})
            for image in (data, whole)
        ]
    (marked,), (fine,) = map(results_of, answers)
    assert marked["image"]["damage"].startswith("its image data ends too early")
    assert fine["image"] == {"width": 48, "height": 36, "damage": None}


@pytest.mark.needs("this_machine")
def test_large_images_at_once(server):
    """As large as allowed, several at a time: answered, and the memory comes back."""
    data = hostile.save(hostile.image(1000, 750).resize((8000, 6000)), "JPEG")
    before = Footprint.of(server)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: send_all(server, [data], threads=1), range(4)))
    assert answers == [{"result": 1}] * 4
    assert Footprint.of(server).memory_mb < before.memory_mb + 100


LARGE: dict[str, tuple[str, dict[str, Any], int]] = {
    "JPEG": ("RGB", {}, 4),
    "CMYK": ("CMYK", {"progressive": True}, 12),
    "PNG": ("RGBA", {}, 8),
    "WEBP": ("RGB", {"lossless": True, "method": 0}, 16),
}
"""Format -> colours, how it is written, and the bytes that a pixel takes while it is decoded (docs/operations.md)."""


@pytest.mark.needs("this_machine")
@pytest.mark.parametrize("form", LARGE)
def test_memory_of_the_largest_batches(server, form):
    """Batches of eight images, each as large as allowed, in all instances at once: as much as one image in each."""
    mode, how, per_pixel = LARGE[form]
    data = hostile.save(Image.new(mode, (8000, 6250)), "JPEG" if form == "CMYK" else form, **how)
    inputs = batch_inputs([data] * MAX_BATCH_IMAGES, np.zeros((MAX_BATCH_IMAGES, 0, 8), dtype=np.float32))
    before, peaks = Footprint.of(server), Peaks(server)

    def send(_):
        with grpcclient.InferenceServerClient(server.url) as triton:
            return [result["image"]["width"] for result in results_of(triton.infer("cocoer", inputs))]

    with ThreadPoolExecutor(COCOER_INSTANCES) as pool:
        assert list(pool.map(send, range(COCOER_INSTANCES))) == [[8000] * MAX_BATCH_IMAGES] * COCOER_INSTANCES
    more = peaks.more_bytes()
    print(f"{form}, eight of 50 megapixels in each instance: {[round(one / 1e6) for one in more]} MB more at the peak")
    assert max(more) < per_pixel * DEFAULT_LIMITS.max_batch_pixels + 80_000_000
    assert min(more) > 3 * DEFAULT_LIMITS.max_batch_pixels  # the images were there
    assert Footprint.of(server).memory_mb < before.memory_mb + 100


@pytest.mark.needs("this_machine")
def test_memory_of_the_largest_batches_that_are_damaged(server):
    """As much as those that are not, though each of them is refused after it was decoded."""
    whole = hostile.save(Image.new("RGB", (8000, 6250)), "JPEG")
    inputs = batch_inputs([whole[:-10_000]] * MAX_BATCH_IMAGES, np.zeros((MAX_BATCH_IMAGES, 0, 8), dtype=np.float32))
    peaks = Peaks(server)

    def send(_):
        with grpcclient.InferenceServerClient(server.url) as triton:
            return [result["error"]["reason"] for result in results_of(triton.infer("cocoer", inputs))]

    with ThreadPoolExecutor(COCOER_INSTANCES) as pool:
        assert list(pool.map(send, range(COCOER_INSTANCES))) == [["damaged"] * MAX_BATCH_IMAGES] * COCOER_INSTANCES
    assert max(peaks.more_bytes()) < 4 * DEFAULT_LIMITS.max_batch_pixels + 80_000_000
