"""Asking a server with OpenAI's interface, with the real client over real HTTP."""

import io
import json

import pytest
from PIL import Image

from cocoer_client.vlm.crops import ImageOptions, SentImage, cut
from cocoer_client.vlm.endpoint import Endpoint, EndpointOptions, EndpointUnusable, RequestFailed, Usage
from cocoer_client.vlm.prompt import Prompt
from tests.vlm_server import VlmServer, breaks, labels, refuses, silence, unknown_model

PERSON = {"body_box": (10, 10, 60, 90), "head_box": (20, 10, 40, 30)}
PICTURE = Image.linear_gradient("L").resize((100, 100)).convert("RGB")
LEVELS: dict[str, SentImage] = dict(cut(PICTURE, PERSON, ImageOptions()).items())
MESSAGES = Prompt.load(None).question(list(LEVELS.values()))


def endpoint(server, **options):
    return Endpoint(EndpointOptions(**{"model": "test-model", "base_url": server.base_url, "retries": 0, **options}))


def test_what_is_sent_arrives_and_what_is_answered_comes_back():
    with VlmServer([labels("peace", usage=(120, 7))]) as server, endpoint(server, key="sk-secret") as asked:
        reply = asked.ask(asked.body(MESSAGES, {"type": "object"}))
    (seen,) = server.requests
    assert (json.loads(reply.text), reply.finish_reason, reply.usage) == ({"labels": ["peace"]}, "stop", Usage(120, 7))
    assert seen.key == "sk-secret"
    assert seen.body["model"] == "test-model"
    assert [image.level for image in seen.images] == ["context", "body", "head"]
    for image in seen.images:
        assert image.data == LEVELS[image.level].data
        assert image.picture.size == Image.open(io.BytesIO(image.data)).size == LEVELS[image.level].size


def test_a_refusal_has_its_own_field():
    with VlmServer([refuses("no")]) as server, endpoint(server) as asked:
        assert asked.ask(asked.body(MESSAGES, None)).refusal == "no"


@pytest.mark.parametrize(
    ("answer", "raised"),
    [(breaks(), RequestFailed), (silence(), RequestFailed), (unknown_model(), EndpointUnusable)],
)
def test_failures(answer, raised):
    with VlmServer([answer]) as server, endpoint(server, timeout=1) as asked, pytest.raises(raised):
        asked.ask(asked.body(MESSAGES, None))
