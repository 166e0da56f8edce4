"""A server with OpenAI's interface (chat completions): OpenAI, Azure, vLLM, Ollama, llama.cpp, LM Studio, ..."""

from __future__ import annotations

import logging
import re
import ssl
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import Any

import openai

from cocoer_client.errors import InvalidInput
from cocoer_client.ordered import is_ending
from cocoer_client.vlm.failures import EndpointUnusable, RequestFailed, failure_of, no_connection
from cocoer_client.vlm.negotiation import WAYS, Negotiation
from cocoer_client.vlm.privacy import host_of, is_loopback, scrubbed
from cocoer_client.vlm.prompt import Message
from cocoer_client.vlm.reply import Reply, Usage, read_reply
from cocoer_client.vlm.settings import EndpointOptions
from cocoer_client.vlm.told import Told, read_told

__all__ = ["Endpoint", "EndpointOptions", "EndpointUnusable", "Reply", "RequestFailed", "Usage"]

CONNECT = 10.0
"""Seconds for a connection, at most: a machine that is not there says nothing."""
LOOK = 0.2
"""Seconds between two looks at whether the run is ending."""
GRACE = 10.0
"""Seconds for what is being answered when the run ends: it is paid for, and will be kept."""
CANDIDATES = 20
"""Of the first token; OpenAI gives as many."""
FILTERED = re.compile(
    r"content_filter|content.?management.?policy|content_policy|responsible_?ai|data_inspection|safety.system|"
    r"moderation",
    re.IGNORECASE,
)
"""Of errors that are an answer: the server does not let the model say anything about this image."""
NO_ROOM = re.compile(r"model output limit was reached", re.IGNORECASE)
"""OpenAI's error where a model's thoughts took all of the answer's tokens."""


class _WithoutBodies(logging.Filter):
    """The library's lines of debugging, without the requests, which older versions (before 3) write with the images."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Request options")


logging.getLogger("openai._base_client").addFilter(_WithoutBodies())


class Endpoint:
    """Asks; threads may share it. Close it, or use it as a context manager.

    Trying again is the library's: after 408, 409, 429, 5xx, silence or a lost connection, with growing pauses of 8 s at
    most, or as ``Retry-After`` says. One of more than two minutes is not waited for: the request fails at once (with
    openai 3; before, one of more than a minute is disregarded, and the library's own pauses are kept).
    """

    def __init__(self, options: EndpointOptions) -> None:
        self.options = options
        self._negotiation = Negotiation()
        self._client = openai.OpenAI(
            api_key=options.key or "none",
            base_url=options.base_url,
            timeout=openai.Timeout(options.timeout, connect=min(options.timeout, CONNECT)),
            max_retries=options.retries,
            http_client=_http_client(options.base_url),
        )
        # Both have read the address; images go where this one has found a host.
        if self._client.base_url.host.lower() != host_of(options.base_url):
            raise InvalidInput(f"--base-url can be read in two ways: {scrubbed(options.base_url)}")

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the server does not take of requests, and what is asked for instead."""
        return self._negotiation.notes

    def body(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, probabilities: bool = False
    ) -> dict[str, Any]:
        """A request's body, as it is sent while the server takes all of it: what an answer depends on.

        Args:
            messages: text and images.
            schema: of the answer; None: any text.
            probabilities: an answer of one token, with the probabilities of what it might have been.
        """
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
            body |= {"logprobs": True, "top_logprobs": CANDIDATES}
        return body

    def ask(self, body: Mapping[str, Any]) -> Reply:
        """One request, tried again where that makes sense, and otherwise where a parameter is refused.

        Args:
            body: of ``body``; what is sent may be less, see ``notes``.

        Raises:
            RequestFailed, EndpointUnusable: see there.
        """
        # At most as often as there are other ways: each refusal is of one that was not refused before.
        ways = sum(map(len, WAYS.values()))
        while True:
            sent = self._negotiation.applied(body)
            answer = self._sent(sent)
            if isinstance(answer, Reply):
                return answer
            if ways == 0 or not self._negotiation.learn(body, sent, answer):
                raise failure_of(answer, self.options)
            ways -= 1

    def _sent(self, body: dict[str, Any]) -> Reply | Told:
        """The reply, or why there is none."""
        try:
            text = self._text(body)
        except openai.APIStatusError as error:
            told = read_told(error.status_code, error.response.text, self.options.key)
            told = replace(told, wait=scrubbed(error.response.headers.get("Retry-After", ""), limit=40))
            return _answer_in(told) or told
        except openai.APIConnectionError as error:
            # Without what led to it: others' messages may hold what no log may.
            raise no_connection(error, self.options) from None
        except openai.OpenAIError as error:
            raise RequestFailed(f"{self.options.base_url}: {scrubbed(str(error), self.options.key)}") from None
        return read_reply(text, self.options)

    def _text(self, body: dict[str, Any]) -> str:
        """The library's call, in a thread that can be left behind: it waits, and pauses, for as long as it likes."""
        answer: Future[str] = Future()

        def call() -> None:
            try:
                response = self._client.chat.completions.with_raw_response.create(**body)
                answer.set_result(response.http_response.text)
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=call, name="cocoer-vlm", daemon=True).start()
        while not answer.done() and not is_ending():
            wait([answer], LOOK)
        if wait([answer], GRACE).not_done:
            raise RequestFailed(f"not waited for any longer: the run ends, and {self.options.base_url} says nothing")
        return answer.result()


def _http_client(base_url: str) -> openai.DefaultHttpxClient:
    """Follows no redirection, which would send an image on; of this machine, asks no proxy of the environment's."""
    if not is_loopback(host_of(base_url)):
        return openai.DefaultHttpxClient(follow_redirects=False)
    # Without the environment, $SSL_CERT_FILE would be lost as well, were it not for Python's own context. Without TLS
    # nobody has to be trusted, and reading whom to trust takes longer than the rest of this.
    secure = base_url.lower().startswith("https:")
    trusted = ssl.create_default_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return openai.DefaultHttpxClient(follow_redirects=False, trust_env=False, verify=trusted)


def _answer_in(told: Told) -> Reply | None:
    """Of an error that is an answer; None: it is none."""
    if told.status in (400, 403) and told.says(FILTERED):
        return Reply("", told.message, "content_filter")
    if told.status == 400 and told.says(NO_ROOM):
        return Reply("", finish_reason="length")
    return None
