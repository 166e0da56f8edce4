"""Servers that refuse a parameter are asked without it: each in its own words, as they have been reported of it."""

import contextlib
import dataclasses
import json
import logging
import threading

import pytest

from cocoer_client.vlm.endpoint import Endpoint, EndpointOptions, EndpointUnusable, RequestFailed
from cocoer_client.vlm.negotiation import FEWER, refused
from cocoer_client.vlm.told import read_told
from tests.vlm_server import Answer, VlmServer, error, labels

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + "A" * 400, "detail": "high"}}
MESSAGES = [
    {"role": "system", "content": "Answer with JSON."},
    {"role": "user", "content": [{"type": "text", "text": "Image 1: the head"}, IMAGE]},
]
SCHEMA = {"type": "object", "properties": {"labels": {"type": "array"}}}
TOKENS_TOLD = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)
TGI = "Failed to deserialize the JSON body into the target type: "


def openai(message, param=None, code=None, status=400):
    return error(status, message, param=param, code=code)


def vllm_of_old(message):
    return Answer(400, {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400})


def fastapi(status, detail):
    return Answer(status, {"detail": detail})


def text(status, message):
    return Answer(status, message.encode(), {"Content-Type": "text/plain; charset=utf-8"})


def pydantic(*location, msg="Extra inputs are not permitted", given="x"):
    return {"type": "extra_forbidden", "loc": ["body", *location], "msg": msg, "input": given}


def printed(name):
    return str(
        [{"type": "extra_forbidden", "loc": ("body", name), "msg": "Extra inputs are not permitted", "input": 1}]
    )


REFUSALS = {
    "openai, max_tokens": ("limit", openai(TOKENS_TOLD, "max_tokens", "unsupported_parameter")),
    "github copilot, max_tokens": (
        "limit",
        Answer(400, {"error": {"message": TOKENS_TOLD, "code": "invalid_request_body"}}),
    ),
    "openai, temperature": (
        "temperature",
        openai(
            "Unsupported value: 'temperature' does not support 0 with this model. "
            "Only the default (1) value is supported.",
            "temperature",
            "unsupported_value",
        ),
    ),
    "openai o3, temperature": (
        "temperature",
        openai("Unsupported parameter: 'temperature' is not supported with this model.", "temperature"),
    ),
    "anthropic, temperature": ("temperature", openai("`temperature` is deprecated for this model.")),
    "tgi, temperature": (
        "temperature",
        Answer(
            422,
            {"error": "Input validation error: `temperature` must be strictly positive", "error_type": "validation"},
        ),
    ),
    "openai, logprobs": ("logprobs", openai("You are not allowed to request logprobs from this model", status=403)),
    "openai of old, logprobs": ("logprobs", openai("Unrecognized request argument supplied: logprobs")),
    "gemini, logprobs": (
        "logprobs",
        Answer(
            400, [{"error": {"code": 400, "message": "Logprobs is not enabled for models/gemini", "status": "INVALID"}}]
        ),
    ),
    "triton, logprobs": ("logprobs", fastapi(400, "logprobs are currently available only for the vLLM backend")),
    "transformers of old, logprobs": (
        "logprobs",
        fastapi(422, "Unexpected keys in the request: {'logprobs'}"),
    ),
    "vllm of old, logprobs": ("logprobs", vllm_of_old(printed("logprobs"))),
    "vllm, 20 candidates": (
        "candidates",
        vllm_of_old("Requested sample logprobs of 20, which is greater than max allowed: 5"),
    ),
    "mistral, top_logprobs": (
        "candidates",
        Answer(
            422, {"object": "error", "message": {"detail": [pydantic("top_logprobs", given=20)]}, "type": "invalid"}
        ),
    ),
    "openai, json_schema": (
        "format",
        openai(
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
            "response_format",
        ),
    ),
    "azure, json_schema": (
        "format",
        openai("response_format value as json_schema is enabled only for api versions 2024-08-01-preview and later"),
    ),
    "tgi, json_schema": (
        "format",
        text(
            422,
            f"{TGI}response_format.type: unknown variant `json_schema`, expected one of `json`, `json_object`, `regex`",
        ),
    ),
    "deepseek, json_schema": (
        "format",
        text(422, f"{TGI}response_format: response_format.type `json_schema` is unavailable now at line 32 column 1"),
    ),
    "llama.cpp of old, json_schema": (
        "format",
        Answer(
            500,
            {
                "error": {
                    "code": 500,
                    "message": 'response_format type must be one of "text" or "json_object", but got: json_schema',
                    "type": "server_error",
                }
            },
        ),
    ),
    "lm studio, response_format": ("format", Answer(400, {"error": "'response_format.type' must be 'text'"})),
    "triton, json_schema": (
        "format",
        fastapi(
            422,
            [pydantic("response_format", "type", msg="Input should be 'text' or 'json_object'", given="json_schema")],
        ),
    ),
    "openai, detail": (
        "detail",
        openai(
            "Unknown parameter: 'messages[1].content[1].image_url.detail'.",
            "messages[1].content[1].image_url.detail",
            "unknown_parameter",
        ),
    ),
    "fastapi, detail": (
        "detail",
        fastapi(422, [pydantic("messages", 1, "content", 1, "image_url", "detail", given=MESSAGES)]),
    ),
}
WITHOUT = {
    "limit": lambda body: "max_tokens" not in body,
    "temperature": lambda body: "temperature" not in body,
    "logprobs": lambda body: "logprobs" not in body,
    "candidates": lambda body: body.get("top_logprobs", 0) <= FEWER,
    "format": lambda body: body.get("response_format", {}).get("type") != "json_schema",
    "detail": lambda body: "detail" not in body["messages"][1]["content"][1]["image_url"],
}


@contextlib.contextmanager
def asking(script, **options):
    with VlmServer(script) as server, endpoint(server, **options) as asked:
        yield server, asked


def endpoint(server, **options):
    return Endpoint(EndpointOptions(model="m", base_url=server.base_url, retries=0, **options))


def wanted(asked, schema=True, probabilities=True):
    return asked.body(MESSAGES, SCHEMA if schema else None, probabilities)


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused_is_done_without(name, caplog):
    caplog.set_level(logging.INFO, "cocoer_client")
    what = REFUSALS[name][0]
    with asking(until(what, name)) as (server, asked):
        body = wanted(asked)
        replies = [asked.ask(body) for _ in range(2)]
        (note,) = asked.notes
    assert [json.loads(reply.text) for reply in replies] == [{"labels": ["peace"]}] * 2
    first, second, third = (seen.body for seen in server.requests)  # the second question is asked the right way at once
    assert first == body
    assert second == third
    assert changed(first, second) == changes(what, first)
    (line,) = [record for record in caplog.records if record.name.startswith("cocoer_client")]
    assert line.levelno == logging.INFO
    assert note in line.getMessage()
    assert "A" * 64 not in line.getMessage()


def until(what, name):
    """A server that refuses in these words until it is asked otherwise."""
    return lambda seen: labels("peace") if WITHOUT[what](seen.body) else REFUSALS[name][1]


def changed(first, second):
    return {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}


def changes(what, first):
    return {
        "limit": {"max_tokens", "max_completion_tokens"},
        "logprobs": {"logprobs", "top_logprobs"},
        "candidates": {"top_logprobs"},
        "format": {"response_format"},
        "detail": {"messages"},
    }.get(what, {what})


def test_a_schema_then_any_json_then_the_prompt_alone():
    """As with TGI, whose json_object wants a schema of its own."""

    def strict(seen):
        kind = seen.body.get("response_format", {}).get("type")
        if kind == "json_schema":
            return REFUSALS["tgi, json_schema"][1]
        return (
            labels() if kind is None else text(422, f"{TGI}response_format: missing field `value` at line 1 column 168")
        )

    with asking(strict) as (server, asked):
        asked.ask(wanted(asked))
    forms = [seen.body.get("response_format", {}).get("type") for seen in server.requests]
    assert forms == ["json_schema", "json_object", None]
    assert asked.notes == ("no response_format: JSON is asked for by the prompt alone",)


def test_a_prompt_without_the_word_json():
    def strict(seen):
        kind = seen.body.get("response_format", {}).get("type")
        if kind == "json_object":
            return openai(
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                "messages",
            )
        return REFUSALS["azure, json_schema"][1] if kind else labels()

    with asking(strict) as (server, asked):
        asked.ask(wanted(asked))
    assert len(server.requests) == 3


def test_several_at_once_and_one_after_the_other():
    """A reasoning model behind a strict server: everything is refused, the limit of tokens by both of its names."""

    def strict(seen):
        body = seen.body
        for name in ("max_tokens", "max_completion_tokens", "temperature", "top_logprobs", "logprobs"):
            if name in body:
                return openai(f"Unsupported parameter: '{name}' is not supported with this model.", name)
        both = [("response_format",), ("messages", 1, "content", 1, "image_url", "detail")]
        given = [place for place, what in zip(both, ("format", "detail")) if not WITHOUT[what](body)]
        return fastapi(422, [pydantic(*place) for place in given]) if given else labels()

    with asking(strict) as (server, asked):
        asked.ask(wanted(asked))
    last = server.requests[-1].body
    assert set(last) == {"model", "messages", "response_format"}
    assert len(server.requests) == 7
    assert len(asked.notes) == 5


def test_the_limit_of_tokens_keeps_its_value():
    with asking(until("limit", "openai, max_tokens"), max_tokens=77) as (server, asked):
        asked.ask(asked.body(MESSAGES, None))
    assert server.requests[-1].body["max_completion_tokens"] == 77


def test_threads_learn_from_each_other():
    """Eight that are refused at once make one step, not eight."""
    together = threading.Barrier(8)
    with asking(until("format", "openai, json_schema")) as (server, asked):

        def ask():
            together.wait()
            asked.ask(wanted(asked))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert asked.notes == ("response_format json_object instead of json_schema",)
    assert sum(WITHOUT["format"](seen.body) for seen in server.requests) == 8


def test_the_wanted_body_stays_what_it_was():
    """It is what the cache's key is made of."""
    with asking(until("detail", "openai, detail")) as (_, asked):
        body, before = wanted(asked), json.dumps(wanted(asked))
        asked.ask(body)
        assert json.dumps(body) == json.dumps(wanted(asked)) == before


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 400. This model supports at most 256 completion tokens, whereas you provided 400.",
        "'max_tokens' or 'max_completion_tokens' is too large: 400. This model's maximum context length is 512 tokens.",
    ],
)
def test_a_value_that_is_too_large_is_no_unknown_parameter(message):
    script, told = [error(400, message, param="max_tokens")], "lower --max-tokens"
    with asking(script) as (server, asked), pytest.raises(RequestFailed, match=told):
        asked.ask(wanted(asked))
    assert len(server.requests) == 1
    assert asked.notes == ()


def test_a_refusal_that_never_ends():
    """A server that names a parameter whatever it is sent is not asked for ever."""
    refusal = REFUSALS["openai, json_schema"][1]
    with asking(lambda seen: refusal) as (server, asked):
        with pytest.raises(RequestFailed, match="response_format"):
            asked.ask(wanted(asked))
        assert len(server.requests) == 3
        with pytest.raises(RequestFailed, match="response_format"):
            asked.ask(wanted(asked))
        assert len(server.requests) == 4


def test_triton_s_own_front_end_takes_no_images():
    """It knows no JSON schema, which is learnt, and then that is that."""

    def triton(seen):
        if not WITHOUT["format"](seen.body):
            return REFUSALS["triton, json_schema"][1]
        return fastapi(400, "only text message is supported, but got image_url")

    told = "'m' at .* takes no images: only text message"
    with asking(triton) as (_, asked), pytest.raises(EndpointUnusable, match=told):
        asked.ask(wanted(asked, probabilities=False))


def test_of_several_that_are_named_the_first_is_meant():
    told = read_told(400, "Unsupported parameter: temperature; supported are max_tokens, response_format, logprobs")
    sent = {"messages": MESSAGES, "max_tokens": 1, "response_format": {}, "logprobs": True, "temperature": 0}
    assert refused(told, sent) == ["temperature"]
    del sent["temperature"]
    assert refused(told, sent) == ["limit"]


@pytest.mark.parametrize("image", ['Unsupported content part type: "image_url"', "At most 1 image(s) may be provided"])
def test_images_that_are_refused_are_no_parameter(image):
    """Whatever of the request is repeated after it."""
    told = read_told(500, f"{image}; messages = [{{'image_url': {{'detail': 'high', 'url': '...'}}}}], temperature = 0")
    assert refused(told, {"messages": MESSAGES, "temperature": 0}) == []


def test_a_message_that_repeats_the_request_names_no_parameter():
    """As llama.cpp's: what is in the repeated request was not refused."""
    repeated = {
        "error": {"code": 400, "message": f"Failed to parse messages: {json.dumps(MESSAGES)}", "type": "server_error"}
    }
    told = read_told(400, json.dumps(repeated))
    assert refused(told, {"messages": MESSAGES, "temperature": 0, "max_tokens": 1}) == []


def test_statuses_that_are_no_refusals():
    refusal = REFUSALS["openai, temperature"][1]
    with asking([dataclasses.replace(refusal, status=409)]) as (_, asked), pytest.raises(RequestFailed):
        asked.ask(wanted(asked))
    assert asked.notes == ()
