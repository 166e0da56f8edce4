"""Asking a server with OpenAI's interface, with the real client over real HTTP."""

import contextlib
import io
import json
import logging
import math
import os
import re
import socket
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import trustme
from PIL import Image

from cocoer_client.errors import CocoerError
from cocoer_client.ordered import in_order, is_ending
from cocoer_client.vlm import endpoint as module
from cocoer_client.vlm.crops import ImageOptions, SentImage, cut
from cocoer_client.vlm.endpoint import Endpoint, EndpointOptions, EndpointUnusable, Reply, RequestFailed, Usage
from cocoer_client.vlm.prompt import Prompt
from tests.vlm_server import (
    Answer,
    VlmServer,
    breaks,
    cut_off,
    error,
    fails,
    filtered,
    labels,
    page,
    rate_limited,
    refuses,
    says,
    silence,
    unknown_model,
    wrong_key,
)
from tests.waiting import PATIENCE, until

PERSON = {"body_box": (10, 10, 60, 90), "head_box": (20, 10, 40, 30)}
PICTURE = Image.effect_noise((100, 100), 80).convert("RGB")
LEVELS: dict[str, SentImage] = dict(cut(PICTURE, PERSON, ImageOptions()).items())
MESSAGES = Prompt.load(None).question(list(LEVELS.values()))
KEY = "gw-7f3kq9x2m5"
PEACE = json.dumps({"labels": ["peace"]})


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """Between tries; the library's begin at half a second."""
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.01)


@contextlib.contextmanager
def asking(script, **options):
    with VlmServer(script) as server, endpoint(server, **options) as asked:
        yield server, asked


def endpoint(server, **options):
    return Endpoint(EndpointOptions(**{"model": "test-model", "base_url": server.base_url, "retries": 0, **options}))


def ask(asked, probabilities=False):
    return asked.ask(asked.body(MESSAGES, None, probabilities))


def failure(script, **options):
    with asking(script, **options) as (_, asked), pytest.raises(CocoerError) as raised:
        ask(asked)
    assert "\n" not in str(raised.value)
    # What led to it may hold what no log may.
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None or raised.value.__suppress_context__
    return raised.value


def test_what_is_sent_arrives_and_what_is_answered_comes_back():
    with asking([labels("peace", usage=(120, 7))], key=KEY, max_tokens=33) as (server, asked):
        reply = asked.ask(asked.body(MESSAGES, {"type": "object"}))
        assert asked.notes == ()
    (seen,) = server.requests
    assert reply == Reply(PEACE, "", "stop", Usage(120, 7))
    assert seen.key == KEY
    assert set(seen.body) == {"model", "messages", "temperature", "max_tokens", "response_format"}
    assert (seen.body["model"], seen.body["temperature"], seen.body["max_tokens"]) == ("test-model", 0, 33)
    assert seen.body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert [image.level for image in seen.images] == ["context", "body", "head"]
    for image in seen.images:
        assert image.data == LEVELS[image.level].data
        assert image.picture.size == Image.open(io.BytesIO(image.data)).size == LEVELS[image.level].size


def test_the_levels_on_a_collage_are_told_apart():
    collages = cut(PICTURE, PERSON, ImageOptions(collage=True)).collages
    with asking([labels()] * len(collages)) as (server, asked):
        for image in collages.values():
            asked.ask(asked.body(Prompt.load(None).question([image]), None))
    assert [one.levels for seen in server.requests for one in seen.images] == list(collages)


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (refuses("no"), Reply("", "no", "stop", Usage(100, 10))),
        (filtered(), Reply("", "", "content_filter", Usage(100, 10))),
        (cut_off("peace"), Reply(PEACE[:-3], "", "length", Usage(100, 10))),
        (labels("peace", usage=None), Reply(PEACE)),
        (labels("peace", finish_reason=None), Reply(PEACE, finish_reason="", usage=Usage(100, 10))),
        (says(None), Reply("", usage=Usage(100, 10))),
        (says([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), Reply("ab", usage=Usage(100, 10))),
        (says([{"type": "refusal", "refusal": "no"}]), Reply("", "no", usage=Usage(100, 10))),
        (says("half \ud83d"), Reply("half ?", usage=Usage(100, 10))),
        (
            Answer(body={"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": "?"}}),
            Reply("a", "", ""),
        ),
    ],
    ids=range(10),
)
def test_answers_of_all_shapes(answer, reply):
    with asking([answer]) as (_, asked):
        assert ask(asked) == reply


def test_the_candidates_of_the_first_token():
    given = says("yes", first_token={"yes": -0.1, "no": -2.5, "Yes": -4.0, "odd": -math.inf})
    with asking([given, says("yes"), says("yes", first_token={})]) as (server, asked):
        replies = [ask(asked, probabilities=True) for _ in range(3)]
    body = server.requests[0].body
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)
    assert [reply.first_token for reply in replies] == [{"yes": -0.1, "no": -2.5, "Yes": -4.0}, {}, {}]


def test_candidates_that_are_written_alike_count_together():
    token = {"token": "a", "logprob": math.log(0.25)}
    choice = {"message": {"content": "a"}, "logprobs": {"content": [{**token, "top_logprobs": [token, token]}]}}
    alone = {"message": {"content": "a"}, "logprobs": {"content": [{**token, "top_logprobs": []}]}}
    with asking([Answer(body={"choices": [one]}) for one in (choice, alone)]) as (_, asked):
        both, one = (ask(asked, probabilities=True).first_token for _ in range(2))
    assert both == {"a": pytest.approx(math.log(0.5))}
    assert one == {"a": pytest.approx(math.log(0.25))}


def chat(message, code=None, status=400):
    return error(status, message, code=code)


AZURE_FILTER = chat("The response was filtered due to the prompt triggering Azure OpenAI's policy.", "content_filter")
NO_ROOM = chat("Could not finish the message because max_tokens or model output limit was reached.")


def test_errors_that_are_answers():
    """Azure's filter answers with 400, and so does OpenAI where thoughts take all tokens."""
    with asking([AZURE_FILTER, NO_ROOM]) as (_, asked):
        refused, short = ask(asked), ask(asked)
    assert refused.finish_reason == "content_filter"
    assert refused.refusal.startswith("The response was filtered")
    assert short == Reply("", finish_reason="length")


UNUSABLE = {
    "wrong key": (wrong_key("sk-abc"), "does not take this key .*Incorrect API key provided: "),
    "forbidden": (chat("Project has no access", status=403), "does not take this key"),
    "openai's model": (unknown_model("m"), "has no model 'test-model' .*/v1/models.: The model `m` does not exist"),
    "ollama's model": (chat("model 'm' not found", status=404), "has no model 'test-model'"),
    "azure's deployment": (
        chat("The API deployment for this resource does not exist.", "DeploymentNotFound", 404),
        "has no",
    ),
    "triton's model": (Answer(400, {"detail": "Unknown model: m"}), "has no model 'test-model'"),
    "transformers' model": (Answer(400, {"detail": "Server is pinned to 'x'; requested 'm'."}), "has no model"),
    "no money": (chat("You exceeded your current quota", "insufficient_quota", 429), "nothing is left to pay with"),
    "deepseek's money": (chat("Insufficient Balance", status=402), "nothing is left to pay with"),
    "vllm, one image": (
        chat("At most 1 image(s) may be provided in one prompt. Set `--limit-mm-per-prompt` to increase this limit."),
        "send one with --collage, or start vLLM with --limit-mm-per-prompt",
    ),
    "vllm of old, one image": (
        Answer(400, {"object": "error", "message": "At most 1 image(s) may be provided in one request.", "code": 400}),
        "--collage",
    ),
    "vllm, no image": (chat("At most 0 image(s) may be provided in one prompt."), "takes no images"),
    "vllm, text": (chat("m is not a multimodal model"), "takes no images"),
    "openai, text": (chat("Invalid content type. image_url is only supported by certain models."), "takes no images"),
    "ollama, text": (chat("this model is missing data required for image input", status=500), "takes no"),
    "llama.cpp, text": (
        chat(
            "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj", status=500
        ),
        "takes no images: image input is not supported - hint",
    ),
    "groq, text": (chat("messages[1].content must be a string"), "takes no images"),
    "openrouter, text": (chat("No endpoints found that support image input", status=404), "takes no images"),
    "a web page": (page(), "is a web site, not OpenAI's interface"),
    "a web page that is not there": (page("<html>nginx</html>", 404), "there is no http://.*/v1/chat/completions"),
    "only GET": (Answer(405, {"detail": "Method Not Allowed"}), "HTTP 405"),
}
FAILED = {
    "context, vllm": (
        chat("This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens."),
        "--longest-side, --detail low",
    ),
    "context, vllm's images": (
        chat("The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
        "--longest-side",
    ),
    "context, llama.cpp": (
        Answer(400, {"error": {"code": 400, "message": "request exceeds it", "type": "exceed_context_size_error"}}),
        "--longest-side",
    ),
    "context, openai": (chat("too many", "context_length_exceeded"), "longer context"),
    "context, tgi": (
        Answer(422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"}),
        "--longest-side",
    ),
    "request too large": (Answer(413, b"<html>413"), "too large for http://.*; lower --longest-side: a web page"),
    "image too large": (chat("image is too large: 21 MB"), "lower --longest-side"),
    "busy": (rate_limited(), "HTTP 429: Rate limit reached.*--concurrency.*--model-retries"),
    "500": (fails(), r"failed \(HTTP 500\): The server had an error"),
    "overloaded": (Answer(503, b"<html>503"), r"failed \(HTTP 503\): a web page"),
    "400": (chat("no such thing"), r"refuses this request \(HTTP 400\): no such thing"),
    "nothing said": (Answer(400, b""), "nothing said"),
    "no JSON": (Answer(200, b'{"choices": ['), "answers what is no JSON: "),
    "no choices": (Answer(200, {"object": "chat.completion"}), "without a choice"),
    "empty choices": (Answer(200, {"choices": []}), "without a choice"),
    "no object": (Answer(200, ["choices"]), "without a choice"),
    "no message": (Answer(200, {"choices": [{"text": "peace"}]}), "without a choice"),
    "an error with 200": (
        Answer(200, {"error": {"message": "upstream is down"}}),
        "without a choice: upstream is down",
    ),
    "an error in a choice": (
        Answer(200, {"choices": [{"message": {"content": ""}, "error": {"message": "lost"}}]}),
        "without a choice: lost",
    ),
    "openrouter's upstream": (
        Answer(400, {"error": {"message": "Provider returned error", "metadata": {"raw": "it is Monday"}}}),
        "Provider returned error: it is Monday",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_ends_a_run(name):
    answer, told = UNUSABLE[name]
    raised = failure([answer], key=KEY)
    assert isinstance(raised, EndpointUnusable)
    assert re.search(told, str(raised)), raised


@pytest.mark.parametrize("name", FAILED)
def test_what_stays_with_its_request(name):
    answer, told = FAILED[name]
    raised = failure([answer])
    assert isinstance(raised, RequestFailed)
    assert re.search(told, str(raised)), raised


def test_a_server_that_wants_a_key():
    assert "wants a key (--api-key-file, or $OPENAI_API_KEY)" in str(failure([wrong_key()]))


def test_an_address_without_v1():
    with VlmServer([]) as server:
        with (
            endpoint(server, base_url=server.base_url.removesuffix("/v1")) as asked,
            pytest.raises(EndpointUnusable) as told,
        ):
            ask(asked)
        assert server.paths == ["POST /chat/completions"]
    assert "/chat/completions (HTTP 404: Not Found); does --base-url lack /v1?" in str(told.value)


def test_nobody_at_the_address():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    options = EndpointOptions(model="m", base_url=f"http://127.0.0.1:{port}/v1", retries=0)
    with Endpoint(options) as asked, pytest.raises(EndpointUnusable, match=f"no server at http://127.0.0.1:{port}/v1"):
        ask(asked)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "chain.pem", append=True)
    return folder


def test_tls(certificate, monkeypatch):
    """Of a server on this machine as well, whose authority the environment names."""
    with VlmServer([labels("peace")], certificate=(certificate / "chain.pem", certificate / "key.pem")) as server:
        with (
            endpoint(server) as asked,
            pytest.raises(EndpointUnusable, match=r"no secure connection .*\$SSL_CERT_FILE"),
        ):
            ask(asked)
        plain = server.base_url.replace("https", "http")
        with endpoint(server, base_url=plain) as asked, pytest.raises(RequestFailed, match="does it want https"):
            ask(asked)
        monkeypatch.setenv("SSL_CERT_FILE", os.fspath(certificate / "ca.pem"))
        with endpoint(server) as asked:
            assert ask(asked).text == PEACE


def test_tls_where_there_is_none():
    with VlmServer([]) as server:
        address = server.base_url.replace("http", "https")
        with (
            endpoint(server, base_url=address) as asked,
            pytest.raises(EndpointUnusable, match="does the server speak TLS"),
        ):
            ask(asked)


@pytest.mark.parametrize(
    "trouble",
    [rate_limited(), rate_limited(0.01), fails(), fails(503), breaks(), error(408, "slow")],
    ids=["429", "Retry-After", "500", "503", "broken", "408"],
)
def test_what_passes_is_asked_again(trouble):
    with asking([trouble, labels("peace")], retries=1, timeout=PATIENCE) as (server, asked):
        assert ask(asked).text == PEACE
    first, second = server.requests
    assert first.raw == second.raw


def test_silence_is_asked_again():
    """A busy machine may let time pass for a later try too: there are several."""

    def answer(seen):
        return labels("peace") if seen.number else silence()

    with asking(answer, retries=20, timeout=1) as (server, asked):
        assert ask(asked).text == PEACE
    assert len(server.requests) >= 2
    assert len({request.raw for request in server.requests}) == 1


@pytest.mark.parametrize("date", [False, True], ids=["seconds", "date"])
def test_retry_after_is_kept_to(date):
    told = 2 if date else 0.5

    def busy(seen):
        return labels("peace") if seen.number else rate_limited(told, date=date)

    with asking(busy, retries=1) as (server, asked):
        ask(asked)
    first, second = server.requests
    # A date has whole seconds: it may be less than a second off.
    assert second.at >= (math.floor(first.at) if date else first.at) + told - 0.05


def test_a_broken_connection_is_told_without_what_led_to_it():
    assert "was lost" in str(failure([breaks()]))


def test_a_retry_after_of_minutes_is_not_waited_for():
    raised = failure([rate_limited(500), labels("peace")], retries=3)
    assert isinstance(raised, RequestFailed)
    assert "Retry-After: 500" in str(raised)


def test_retries_come_to_an_end():
    with (
        asking([fails()] * 2 + [labels()], retries=1) as (server, asked),
        pytest.raises(RequestFailed, match="HTTP 500"),
    ):
        ask(asked)
    assert len(server.requests) == 2


def test_silence_is_a_timeout():
    raised = failure([silence()], timeout=0.5)
    assert isinstance(raised, RequestFailed)
    assert "within 0.5 s" in str(raised)
    assert "--model-timeout" in str(raised)


def test_one_failure_stays_with_its_request():
    """Of eight at once, all of them on the way together."""
    together = threading.Event()

    def answer(seen):
        if server.in_flight == 8:
            together.set()
        number = int(seen.text)
        return silence(together, then=[labels("peace"), fails(400), breaks()][number % 3])

    def outcome(number):
        try:
            return asked.ask(asked.body([{"role": "user", "content": str(number)}], None)).text
        except RequestFailed as error:
            return type(error)

    with asking(answer) as (server, asked), ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(outcome, range(8)))
    assert outcomes == [PEACE if number % 3 == 0 else RequestFailed for number in range(8)]
    assert server.most_in_flight == 8


SHOWN = next(number for number, part in enumerate(MESSAGES[1]["content"]) if "image_url" in part)
"""Where the first image is."""


@pytest.mark.parametrize("late", [False, True], ids=["never answered", "answered late"])
def test_a_run_that_ends_does_not_wait_for_silence(late, monkeypatch):
    """But a little for what it has paid for. The first of three requests ends it, once the second is on its way."""
    monkeypatch.setattr(module, "GRACE", PATIENCE if late else 0.2)
    underway, release, outcomes = threading.Event(), threading.Event(), []

    def answer(seen):
        if seen.text == "first":
            return silence(underway, then=wrong_key())
        underway.set()
        return silence(release, then=labels("peace"))

    def work(text):
        if text == "watch":
            until(is_ending)
            if late:
                release.set()
            return
        try:
            outcomes.append(asked.ask(asked.body([{"role": "user", "content": text}], None)).text)
        except RequestFailed as error:
            outcomes.append(str(error))

    with asking(answer, timeout=PATIENCE) as (_, asked), pytest.raises(EndpointUnusable):
        list(in_order(work, ["first", "second", "watch"], workers=3))
    (outcome,) = outcomes
    assert outcome == PEACE if late else outcome.startswith("not waited for any longer")


def leaks(text):
    """What must not be in a log or a message."""
    image = MESSAGES[1]["content"][SHOWN]["image_url"]["url"]
    return [part for part in (KEY, "sk-other", image[100:164], image[-80:-16]) if part in text]


def test_neither_keys_nor_images_are_logged_or_told(caplog):
    """Whatever the server repeats of a request, and however much others' loggers say."""
    caplog.set_level(logging.DEBUG)

    def echo(status):
        def answer(seen):
            image = seen.body["messages"][1]["content"][SHOWN]["image_url"]["url"]
            text = f"sk-other12345 {seen.headers['authorization']} {KEY} {image} {seen.raw.decode()}"
            return error(status, text, param="response_format" if status == 422 else None)

        return answer

    told = []
    for script in (echo(400), echo(401), echo(404), echo(422), echo(500), lambda seen: Answer(200, seen.raw)):
        with asking(script, key=KEY) as (server, asked):
            with pytest.raises(CocoerError) as raised:
                asked.ask(asked.body(MESSAGES, {"type": "object"}))
            told += [str(raised.value), *traceback.format_exception(raised.value), *asked.notes]
        assert server.requests[0].key == KEY
    with asking([breaks(), labels("peace")], key=KEY, retries=1) as (_, asked):
        ask(asked)
    assert any(record.name.startswith("openai") and record.levelno == logging.DEBUG for record in caplog.records)
    assert any("asked from now on with" in record.getMessage() for record in caplog.records)
    assert [leaks(caplog.text), leaks("".join(told))] == [[], []]
    assert told[0].count("[key]") == 3
    assert "[data]" in told[0]


def test_what_older_versions_of_the_library_log(caplog):
    """With OPENAI_LOG=debug they write requests whole."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("openai._base_client").debug("Request options: %s", {"json_data": {"messages": MESSAGES}})
    logging.getLogger("openai._base_client").debug("HTTP Response: %s", 200)
    assert [record.getMessage() for record in caplog.records] == ["HTTP Response: 200"]


def test_the_key_is_in_no_repr():
    options = EndpointOptions(model="m", base_url="http://localhost/v1", key=KEY)
    with Endpoint(options) as asked:
        assert leaks(f"{options!r} {asked!r} {vars(asked)!r}") == []
