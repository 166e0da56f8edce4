"""``cocoer-vlm`` with a real model behind ``transformers serve``, neither of which knows of it.

The model (tests/small_vlm.py) is untrained: what it says is nonsense, and has to be told as such.
"""

import json
import sys

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from cocoer_client.vlm.endpoint import Endpoint, EndpointOptions
from tests.conftest import run_python
from tests.small_vlm import TransformersServe, small_vlm, tokens
from tests.vlm_runs import IMAGES, MODES, Runner, handing_on, made_up_cocoer
from tests.vlm_server import VlmServer

pytestmark = [
    pytest.mark.needs("checkout"),
    pytest.mark.skipif(sys.version_info < (3, 11), reason="transformers 5 is there from Python 3.11 on"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with TransformersServe(small_vlm(), tmp_path_factory.mktemp("model") / "log.txt") as server:
        yield server


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tmp_path_factory.mktemp("photos")


@pytest.fixture(scope="module")
def cocoer(photos):
    with made_up_cocoer(photos) as url:
        yield url


@pytest.fixture
def ask(cocoer, photos, model, tmp_path, monkeypatch):
    """Runs the command on photos of these names."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    run = Runner(cocoer, photos, tmp_path)
    return lambda photo, *arguments, base_url=model.base_url: run(photo, base_url, model.model, *arguments)


def asked(model):
    """How often the model has been, by its server's own log."""
    lines = model.log.read_text(errors="replace").splitlines()
    return sum("POST /v1/chat/completions" in line for line in lines)


def test_nonsense_is_unparseable(ask, model, tmp_path):
    before, page = asked(model), tmp_path / "vlm.html"
    run = ask("sample.png", "--report", str(page))
    assert run.status == 0, run.told
    (person,) = run.answers
    assert tuple(person) == MODES
    for mode, answer in person.items():
        assert (answer["kind"], answer["labels"], len(answer["images"])) == ("unparseable", [], IMAGES[mode])
        assert answer["text"]
        assert f"{mode}: unparseable 1" in run.told
        assert answer["usage"]["prompt_tokens"] > answer["usage"]["completion_tokens"] > 0
    for kind in ("prompt_tokens", "completion_tokens"):
        assert run.record["usage"][kind] == sum(answer["usage"][kind] for answer in person.values())
    assert page.read_text().count("unparseable") >= len(MODES)
    assert asked(model) - before == len(MODES)


def test_what_is_cut_off_is_told_apart(ask):
    run = ask("sample.png", "--max-tokens", "5")
    assert run.status == 0, run.told
    (person,) = run.answers
    assert {answer["kind"] for answer in person.values()} == {"cut_off"}
    assert {answer["usage"]["completion_tokens"] for answer in person.values()} == {5}


def test_several_at_once_and_what_is_kept(ask, model):
    before = asked(model)
    run = ask("crowd.png", "--concurrency", "4")
    assert run.status == 0, run.told
    assert [answer["kind"] for person in run.answers for answer in person.values()] == ["unparseable"] * 9
    assert asked(model) - before == 9
    again = ask("crowd.png")
    assert again.status == 0
    assert asked(model) - before == 9
    texts, texts_again = (
        [one["text"] for person in which.answers for one in person.values()] for which in (run, again)
    )
    assert texts == texts_again


def test_it_looks_at_the_images(ask):
    """Two photos, of which the same is asked, and the first of them once more, at temperature 0."""
    run = ask("sample.png negative.png", "--modes", "single")
    assert run.status == 0, run.told
    first, second = (person["single"] for person in run.answers)
    assert first["usage"]["prompt_tokens"] == second["usage"]["prompt_tokens"]
    assert first["text"] != second["text"]
    again = ask("sample.png", "--modes", "single", "--no-cache")
    assert again.answers[0]["single"]["text"] == first["text"]


@pytest.fixture
def relay(model):
    """Hands on what comes, and keeps it."""
    with VlmServer(handing_on(model.url)) as server:
        yield server


def drained(value):
    """Pydantic validates what is typed as iterable once it is iterated."""
    if isinstance(value, dict):
        return {name: drained(one) for name, one in value.items()}
    return value if isinstance(value, (str, int, float, type(None))) else [drained(one) for one in value]


@pytest.mark.parametrize("options", [[], ["--collage", "--detail", "low"]], ids=["images", "collage"])
def test_requests_are_what_the_interface_says_and_are_read_whole(ask, relay, options):
    """As the openai package types them, with nothing that it doesn't know; and the server counts as many tokens as
    there are bytes of text, and parts of images."""
    run = ask("sample.png", *options, base_url=relay.base_url)
    assert run.status == 0, run.told
    interface = TypeAdapter(CompletionCreateParamsNonStreaming)
    (person,) = run.answers
    for mode, request in zip(MODES, relay.requests, strict=True):
        assert drained(interface.validate_python(request.body)) == request.body
        assert len(request.images) == (1 if options else IMAGES[mode])
        assert person[mode]["usage"]["prompt_tokens"] == tokens(request.body["messages"])


def test_log_probabilities_that_it_does_not_give(model):
    """The server takes the request, and leaves them out."""
    with Endpoint(EndpointOptions(model=model.model, base_url=model.base_url)) as endpoint:
        reply = endpoint.ask(endpoint.body([{"role": "user", "content": "Yes?"}], None, probabilities=True))
    assert not reply.first_token
    assert (reply.finish_reason, reply.usage.completion) == ("length", 1)


def test_another_model_from_the_command_line(cocoer, photos, model, tmp_path):
    """The server says which one it has, and the run ends."""
    before, out = asked(model), tmp_path / "vlm.json"
    options = ["--url", cocoer, "--base-url", model.base_url, "--model", "gpt-4o", "--no-cache", "--json", out]
    run = run_python("client/vlm.py", photos / "crowd.png", *options, "--concurrency", "1")
    assert run.returncode == 3
    assert f"has no model 'gpt-4o' (what it has: {model.base_url}/models)" in run.stderr
    assert f"Server is pinned to '{model.model}'" in run.stderr
    assert json.loads(out.read_text())["usage"] == {"prompt_tokens": 0, "completion_tokens": 0}
    # The second person's first question may have been on its way when the first one's was refused.
    assert 1 <= asked(model) - before <= 2
