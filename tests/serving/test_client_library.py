"""``CocoerClient`` and ``AsyncCocoerClient`` against the real server."""

import asyncio

import numpy as np
import pytest
from PIL import Image

from cocoer_client import (
    AsyncCocoerClient,
    CocoerClient,
    InvalidInput,
    InvalidRequest,
    Result,
    ServerError,
    ServerUnavailable,
    connection,
)
from tests import golden as gold
from tests import metrics
from tests.conftest import SAMPLE
from tests.proxy import ForgetfulProxy
from tests.serving.test_served import as_persons, check_result
from tests.waiting import until


@pytest.fixture(scope="module")
def persons(expected):
    return as_persons(gold.person_rows(expected))


def same(result, other):
    """Equal, but for how far batches change float32 sums."""
    assert [person.head_box for person in result.persons] == [person.head_box for person in other.persons]
    for mine, theirs in zip(result.persons, other.persons):
        for key, scores in mine.scores.items():
            np.testing.assert_allclose(list(scores.values()), list(theirs.scores[key].values()), atol=gold.TOLERANCE)


def test_a_typed_result(client, expected, persons):
    result = client.infer(SAMPLE, persons)
    check_result(result.raw, expected)
    for index, person in enumerate(result.persons):
        assert result.to_dict()[str(index)]["pred"] == list(person.pred)
        gold.check_labels(list(person.pred), expected["pred"][index], gold.FINAL)


def test_after_coordination(client, tiny_checkpoints, expected, persons):
    """``refined`` against the official code's refined features, put through the checkpoint's last layers."""
    from cocoer.checkpoints.loader import load_checkpoint

    expected = gold.refined_logits(load_checkpoint(tiny_checkpoints).tensors, expected)
    for index, person in enumerate(client.infer(SAMPLE, persons).persons):
        for level, key in enumerate(("head", "body", "ctx")):
            p = np.array(list(person.refined[key].values()))
            np.testing.assert_allclose(p, 1 / (1 + np.exp(-expected[index, level].astype(np.float64))), atol=1e-4)


def test_every_kind_of_image_is_the_same_image(client, persons, sample_bytes):
    whole = client.infer(sample_bytes, persons)
    with Image.open(SAMPLE) as opened:
        array = np.asarray(opened.convert("RGB"))
        for image in (SAMPLE, str(SAMPLE), opened, array, np.dstack([array, array[..., 0]])):
            same(client.infer(image, persons), whole)


def test_a_batch_in_which_some_fail(client, persons, sample_bytes):
    images = [sample_bytes, b"junk", SAMPLE, np.zeros((4, 4), dtype=np.float32), *[sample_bytes] * 9]
    boxes = [persons[:2], persons[:2], None, None, *[persons[:1]] * 9]
    outcomes = client.infer_batch(images, boxes)
    assert [type(outcome) for outcome in outcomes] == [Result, InvalidRequest, Result, InvalidInput, *[Result] * 9]
    assert outcomes[1].reason == "format"
    alone = client.infer(sample_bytes, persons[:2])
    same(outcomes[0], alone)
    assert [len(outcome.persons) for outcome in outcomes[4:]] == [1] * 9
    assert client.infer_batch([]) == []


def test_an_option_that_is_wrong_is_everyones_error(client, persons, sample_bytes):
    outcomes = client.infer_batch([sample_bytes] * 2, [persons[:1]] * 2, final_threshold=7.0)
    assert all("final_threshold" in str(outcome) for outcome in outcomes)


def test_many_in_order(client, sample_bytes):
    sizes = [(60 + 10 * index, 50) for index in range(12)]
    images = [np.zeros((height, width, 3), dtype=np.uint8) for width, height in sizes]
    outcomes = list(client.infer_many([*images[:6], b"junk", *images[6:]], concurrency=5, min_score=0.9))
    assert isinstance(outcomes.pop(6), InvalidRequest)
    assert [(outcome.width, outcome.height) for outcome in outcomes] == sizes


@pytest.mark.needs("scrfd")
def test_body_without_head(client, expected, sample_bytes):
    """The server looks for the head; the release's rule, and nobody where there is no face."""
    detected = client.infer(sample_bytes, min_score=0.0).persons[0]
    found = client.infer(sample_bytes, [{"body": [0, 0, 1, 1]}, {"body": [0, 0, 512, 512]}], min_score=0.0)
    assert [person.id for person in found.persons] in ([2], [1, 2])
    assert found.persons[-1].body_box == (0, 0, 512, 512)
    assert found.persons[-1].head_box.x2 <= 512
    assert detected.head_box.x1 >= 0


def test_body_without_head_and_opencv(opencv_server, sample_bytes):
    with CocoerClient(opencv_server.url) as client:
        (detected,) = client.infer(sample_bytes).persons
        boxes = [{"body": [400, 0, 512, 512]}, {"body": [50, 0, 400, 512]}]
        (found,) = client.infer(sample_bytes, boxes).persons
    assert found.id == 2
    assert found.head_box == detected.head_box


def test_a_connection_that_is_forgotten_is_noticed(server, sample_bytes):
    """The next call asks whether anybody is there, and makes a new connection within its time."""
    with ForgetfulProxy(server.grpc_port) as proxy, CocoerClient(proxy.url, timeout=16) as client:
        client.infer(sample_bytes, [])
        proxy.forget()
        assert client.infer(sample_bytes, []).persons == ()
        assert proxy.accepted == 2

    async def ask():
        with ForgetfulProxy(server.grpc_port) as proxy:
            async with AsyncCocoerClient(proxy.url, timeout=16) as client:
                await client.infer(sample_bytes, [])
                proxy.forget()
                assert (await client.infer(sample_bytes, [])).persons == ()

    asyncio.run(ask())


def test_an_unused_connection_is_closed_before_others_forget_it(server, sample_bytes, monkeypatch):
    monkeypatch.setattr(connection, "IDLE", 1.0)
    with ForgetfulProxy(server.grpc_port) as proxy, CocoerClient(proxy.url, timeout=60) as client:
        client.infer(sample_bytes, [])
        assert proxy.open == 1
        until(lambda: proxy.open == 0)
        assert client.infer(sample_bytes, []).persons == ()
        assert proxy.accepted == 2


def test_headers_reach_the_server(repositories, tmp_path, sample_bytes):
    """A server that wants a key for inference, as gateways do."""
    from serving.server import TritonServer

    keys = {"inference": "x-key=open", "model-config": "y-key=shut"}
    flags = [f"--grpc-restricted-protocol={protocol}:{key}" for protocol, key in keys.items()]
    with TritonServer(repositories("opencv"), tmp_path / "log", arguments=flags) as server:
        with (
            CocoerClient(server.url, retries=0) as stranger,
            pytest.raises(ServerError, match="without its key"),
        ):
            stranger.infer(sample_bytes)
        with CocoerClient(server.url, headers={"Triton-Grpc-Protocol-X-Key": "open"}) as friend:
            assert friend.infer(sample_bytes).persons
            with pytest.raises(ServerError, match="without its key"):
                friend.model_limits()


def test_async(server, persons, sample_bytes):
    async def ask():
        async with AsyncCocoerClient(server.url, timeout=60) as client:
            await client.check_ready()
            results = await asyncio.gather(*(client.infer(sample_bytes, persons[:1]) for _ in range(6)))
            batch = await client.infer_batch([sample_bytes, b"junk", SAMPLE], [persons[:1]] * 3)
            many = [one async for one in client.infer_many([SAMPLE, b"junk", sample_bytes], 2, min_score=1.0)]
            return results, batch, many

    results, batch, many = asyncio.run(ask())
    for result in (*results, batch[0], batch[2]):
        same(result, results[0])
    assert isinstance(batch[1], InvalidRequest)
    assert [type(outcome) for outcome in many] == [Result, InvalidRequest, Result]


def test_async_has_the_same_errors():
    async def ask():
        async with AsyncCocoerClient("127.0.0.1:9", timeout=5, retries=1) as client:
            with pytest.raises(ServerUnavailable, match="no server at 127.0.0.1:9"):
                await client.infer(b"x")
            with pytest.raises(ServerUnavailable):
                await client.check_ready()

    asyncio.run(ask())


def test_a_cancelled_task_is_cancelled_on_the_server(server, expected, sample_bytes):
    """A crowd that takes seconds: the server drops it, and says so in its metrics."""
    crowd = as_persons(np.resize(gold.person_rows(expected), (500, 8)))
    cancelled = metrics.key("cocoer_failed_total", reason="cancelled")
    before = metrics.settled(server)[cancelled]

    async def ask():
        async with AsyncCocoerClient(server.url, timeout=60) as client:
            task = asyncio.create_task(client.infer(sample_bytes, crowd))
            while not (await asyncio.to_thread(metrics.scrape, server))[metrics.key("cocoer_requests_running")]:
                assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(ask())
    assert metrics.settled(server)[cancelled] == before + 1


def test_the_model_is_known_before_the_first_image(client, sample_bytes):
    assert client.model_info() == client.infer(sample_bytes).model
    with pytest.raises(InvalidRequest, match="final_threshold"):
        client.model_info(final_threshold=7)


@pytest.mark.needs("this_machine")
def test_a_refusal_has_its_reason_and_its_request_id(server, client):
    before = len(server.log.read_bytes())
    with pytest.raises(InvalidRequest, match="not an image in JPEG") as caught:
        client.infer(b"junk", request_id="page-7", on_refusal="answer")
    assert caught.value.reason == "format"
    until(lambda: b"page-7" in server.log.read_bytes()[before:])
    with pytest.raises(InvalidRequest, match="not an image in JPEG") as caught:
        client.infer(b"junk")
    assert caught.value.reason is None

    async def ask():
        async with AsyncCocoerClient(server.url) as asynchronous:
            with pytest.raises(InvalidRequest) as caught:
                await asynchronous.infer_raw(b"", request_id="page-8", on_refusal="answer", final_threshold=0.5)
            assert caught.value.reason == "empty"

    asyncio.run(ask())
    until(lambda: b"page-8" in server.log.read_bytes()[before:])


def test_what_the_model_takes_is_known_without_trying(server, client):
    async def ask():
        async with AsyncCocoerClient(server.url) as asynchronous:
            return await asynchronous.model_limits()

    limits = client.model_limits()
    assert limits == asyncio.run(ask())
    assert "PNG" in limits.formats
    assert 0 < limits.final_threshold < 1
    with pytest.raises(InvalidRequest, match=f"IMAGE has {limits.max_bytes + 1} bytes"):
        client.infer(bytes(limits.max_bytes + 1))
    with CocoerClient("127.0.0.1:9", timeout=5) as nobody, pytest.raises(ServerUnavailable, match="no server at"):
        nobody.model_limits()
