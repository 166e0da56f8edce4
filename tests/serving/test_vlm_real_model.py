"""``cocoer-vlm`` with a real model behind a real server of the interface, neither of which knows of it.

The model (tests/small_vlm.py) is untrained: what it says is nonsense, and has to be told as such.
"""

import json
import sys
import urllib.error
import urllib.request

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from PIL import Image, ImageOps
from pydantic import TypeAdapter

from cocoer_client.vlm.endpoint import Endpoint, EndpointOptions
from tests.conftest import SAMPLE, run_python
from tests.fake_server import FakeServer
from tests.results import make_person, make_result
from tests.small_vlm import TransformersServe, small_vlm, tokens
from tests.vlm_server import Answer, VlmServer

pytestmark = [
    pytest.mark.needs("checkout"),
    pytest.mark.skipif(
        sys.version_info < (3, 11), reason="transformers, as it is locked, is there from Python 3.11 on"
    ),
]

MODES = ("single", "multi", "enhanced")
IMAGES = {"single": 1, "multi": 3, "enhanced": 2}
ASKED = "POST /v1/chat/completions"
BOXES = [
    ([94, 20, 400, 512], [177, 66, 272, 161]),
    ([0, 0, 90, 200], [20, 10, 60, 60]),
    ([400, 0, 512, 300], [430, 20, 480, 80]),
]
"""Of three persons, body and head."""
CROWD = "crowd.png"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with TransformersServe(small_vlm(), tmp_path_factory.mktemp("model") / "log.txt") as server:
        yield server


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The sample (one person), its negative (the same), and its mirror image (three of them)."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(SAMPLE) as image:
        ImageOps.invert(image.convert("RGB")).save(folder / "negative.png")
        ImageOps.mirror(image).save(folder / CROWD)
        image.save(folder / "sample.png")
    return folder


@pytest.fixture(scope="module")
def cocoer(photos):
    """Who is where, by a server that is not asked here what it finds."""
    crowd = (photos / CROWD).read_bytes()
    persons = [make_person(number, *boxes, ["peace", "esteem"]) for number, boxes in enumerate(BOXES, 1)]

    def answer(image, now):
        return make_result((512, 512), persons if image == crowd else persons[:1])

    server = FakeServer(answer)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def ask(cocoer, model, tmp_path):
    """Runs the command as a user does; its exit status, what --json wrote, and the run."""

    def run(*arguments, base_url=model.base_url, name=model.model):
        out = tmp_path / "vlm.json"
        out.unlink(missing_ok=True)
        about = ["--url", cocoer.url, "--model", name, "--base-url", base_url, "--cache", tmp_path / "cache"]
        done = run_python("client/vlm.py", *about, "--json", out, *arguments)
        return done.returncode, json.loads(out.read_text()) if out.exists() else None, done

    return run


def answers(record):
    """Of all persons, in their order: mode -> answer."""
    return [person["answers"] for image in record["images"] for person in image["persons"]]


def asked(model):
    """How often the model has been, by its server's own log."""
    return sum(ASKED in line for line in model.log.read_text(errors="replace").splitlines())


def test_nonsense_is_unparseable(ask, model, photos, tmp_path):
    before, page = asked(model), tmp_path / "vlm.html"
    status, record, run = ask(photos / "sample.png", "--report", page)
    assert status == 0, run.stderr
    (person,) = answers(record)
    assert tuple(person) == MODES
    for mode, answer in person.items():
        assert (answer["kind"], answer["labels"], len(answer["images"])) == ("unparseable", [], IMAGES[mode])
        assert answer["text"]
        assert f"{mode}: 1 unparseable" in run.stderr
        assert answer["usage"]["prompt_tokens"] > answer["usage"]["completion_tokens"] > 0
    for kind in ("prompt_tokens", "completion_tokens"):
        assert record["usage"][kind] == sum(answer["usage"][kind] for answer in person.values())
    assert "unparseable" in run.stdout
    assert "unparseable" in page.read_text()
    assert asked(model) - before == len(MODES)


def test_what_is_cut_off_is_told_apart(ask, photos):
    status, record, run = ask(photos / "sample.png", "--max-tokens", "5")
    assert status == 0, run.stderr
    (person,) = answers(record)
    assert {answer["kind"] for answer in person.values()} == {"cut_off"}
    assert {answer["usage"]["completion_tokens"] for answer in person.values()} == {5}


def test_several_at_once_and_what_is_kept(ask, model, photos):
    before = asked(model)
    status, record, run = ask(photos / CROWD, "--concurrency", "4")
    assert status == 0, run.stderr
    assert [answer["kind"] for person in answers(record) for answer in person.values()] == ["unparseable"] * 9
    assert asked(model) - before == 9
    again_status, again, _ = ask(photos / CROWD)
    assert again_status == 0
    assert asked(model) - before == 9
    assert again["answers_kept"] == 9
    assert [[one["text"] for one in person.values()] for person in answers(again)] == [
        [one["text"] for one in person.values()] for person in answers(record)
    ]


def test_it_looks_at_the_images(ask, photos):
    """Two photos, in which the same is asked, and the first of them once more, at temperature 0."""
    files = [photos / "sample.png", photos / "negative.png"]
    status, record, run = ask(*files, "--modes", "single")
    assert status == 0, run.stderr
    first, second = (person["single"] for person in answers(record))
    assert first["usage"]["prompt_tokens"] == second["usage"]["prompt_tokens"]
    assert first["text"] != second["text"]
    _, again, _ = ask(files[0], "--modes", "single", "--no-cache")
    assert answers(again)[0]["single"]["text"] == first["text"]


@pytest.fixture
def relay(model):
    """Hands on what comes, and keeps it."""

    def hand_on(seen):
        headers = {"content-type": seen.headers["content-type"], "authorization": seen.headers["authorization"]}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(model.url + seen.path, seen.raw, headers), timeout=600
            ) as answer:
                return Answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read())

    with VlmServer(hand_on) as server:
        yield server


@pytest.mark.parametrize("collage", [False, True])
def test_all_that_is_sent_is_read(ask, relay, photos, collage):
    """The server counts as many tokens as the bytes of text and the images make, for each request."""
    status, record, run = ask(photos / "sample.png", *["--collage"] * collage, base_url=relay.base_url)
    assert status == 0, run.stderr
    (person,) = answers(record)
    requests = dict(zip(MODES, relay.requests, strict=True))
    for mode, request in requests.items():
        assert len(request.images) == (1 if collage else IMAGES[mode])
        assert person[mode]["usage"]["prompt_tokens"] == tokens(request.body["messages"])


def drained(value):
    """Pydantic validates what is typed as iterable once it is iterated."""
    if isinstance(value, dict):
        return {name: drained(one) for name, one in value.items()}
    return value if isinstance(value, (str, int, float, type(None))) else [drained(one) for one in value]


def test_requests_are_what_the_interface_says(ask, relay, photos):
    """As the openai package types them: nothing is missing, and nothing is there that it doesn't know."""
    interface = TypeAdapter(CompletionCreateParamsNonStreaming)
    for options in ([], ["--collage"], ["--detail", "low"]):
        status, _, run = ask(photos / "sample.png", *options, base_url=relay.base_url)
        assert status == 0, run.stderr
    assert len(relay.requests) == 9
    for request in relay.requests:
        assert drained(interface.validate_python(request.body)) == request.body
        assert request.body["temperature"] == 0
        assert [message["role"] for message in request.body["messages"]] == ["system", "user"]


def test_log_probabilities_that_it_does_not_give(model):
    """The server takes the request, and leaves them out."""
    with Endpoint(EndpointOptions(model=model.model, base_url=model.base_url)) as endpoint:
        reply = endpoint.ask(endpoint.body([{"role": "user", "content": "Yes?"}], None, probabilities=True))
    assert not reply.first_token
    assert (reply.finish_reason, reply.usage.completion) == ("length", 1)


def test_another_model(ask, photos, model):
    """The server says which one it has."""
    status, record, run = ask(photos / "sample.png", name="gpt-4o")
    assert status != 0
    told = run.stderr + json.dumps(record)
    assert "Server is pinned to" in told
    assert model.model in told
