"""A server with OpenAI's interface (chat completions): OpenAI, Azure, vLLM, Ollama, llama.cpp, Triton's front end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import openai

from cocoer_client.errors import CocoerError
from cocoer_client.vlm.prompt import Message


class RequestFailed(CocoerError):
    """This request has no answer; others may have one."""


class EndpointUnusable(CocoerError):
    """No request will have one: no such server, model or key."""


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """Whom to ask, and how.

    Args:
        model: as the server names it.
        base_url: ends before ``/chat/completions``.
        key: of the server; empty: it wants none.
        timeout: seconds for an answer, each try.
        retries: tries again of a request that was refused for now (429), failed (5xx) or got no answer.
        max_tokens: of an answer.
    """

    model: str
    base_url: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    retries: int = 4
    max_tokens: int = 400


@dataclass(frozen=True)
class Usage:
    """Tokens, as the server counts them."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt + other.prompt, self.completion + other.completion)


@dataclass(frozen=True)
class Reply:
    """What came back.

    Args:
        text: the model's.
        refusal: of its own field; empty: none.
        finish_reason: why it ended.
        usage: what it cost.
        first_token: candidates of the first token -> log-probability; empty: not asked for, or not given.
    """

    text: str
    refusal: str = ""
    finish_reason: str = "stop"
    usage: Usage = Usage()
    first_token: Mapping[str, float] = field(default_factory=dict)


class Endpoint:
    """Asks; threads may share it. Close it, or use it as a context manager."""

    def __init__(self, options: EndpointOptions) -> None:
        self.options = options
        # An image must not be sent on to where a redirection points.
        http = openai.DefaultHttpxClient(follow_redirects=False)
        self._client = openai.OpenAI(
            api_key=options.key or "none",
            base_url=options.base_url,
            timeout=options.timeout,
            max_retries=options.retries,
            http_client=http,
        )

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def body(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, probabilities: bool = False
    ) -> dict[str, Any]:
        """A request's body, as it is sent while the server takes all of it: what an answer depends on."""
        body: dict[str, Any] = {
            "model": self.options.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": 1 if probabilities else self.options.max_tokens,
        }
        if schema is not None:
            about = {"name": "emotions", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": about}
        if probabilities:
            body |= {"logprobs": True, "top_logprobs": 20}
        return body

    def ask(self, body: Mapping[str, Any]) -> Reply:
        """One request, tried again where that makes sense.

        Raises:
            RequestFailed, EndpointUnusable: see there.
        """
        try:
            answer = self._client.chat.completions.create(**body)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise EndpointUnusable(str(error)) from error
        except openai.OpenAIError as error:
            raise RequestFailed(str(error)) from error
        choice = answer.choices[0]
        usage = Usage(answer.usage.prompt_tokens, answer.usage.completion_tokens) if answer.usage else Usage()
        message = choice.message
        return Reply(message.content or "", message.refusal or "", choice.finish_reason or "", usage)
