"""A server with OpenAI's interface (chat completions) that keeps what it is asked and answers from a script.

    with VlmServer([labels("peace"), rate_limited(1), refuses()]) as server:
        ... server.base_url ... server.requests[0].images[0].picture

A script is a list, whose answers are given one after the other, or a callable that makes an answer of a request, which
does not depend on the order of requests that come at once. Functions of this module make the answers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import fastapi
import uvicorn
from PIL import Image
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from tests.quick_uvicorn import look_often
from tests.waiting import PATIENCE, until

look_often()
MODEL = "test-model"
COMPLETIONS = "/v1/chat/completions"
LEVEL = re.compile(r"\b(context|whole (?:photograph|photo|image|picture)|body|head)\b", re.IGNORECASE)


@dataclass(frozen=True)
class SeenImage:
    """An image of a request.

    Args:
        data: the file's bytes, as they were sent.
        media_type: as the data URL names it.
        detail: as it was sent; None: it was not.
        before: the text right before it; without one, all text of the request.
    """

    data: bytes
    media_type: str
    detail: str | None
    before: str

    @functools.cached_property
    def picture(self) -> Image.Image:
        """Decoded."""
        picture = Image.open(io.BytesIO(self.data))
        picture.load()
        return picture

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels that the text before it names, each once, in their order: several before a collage."""
        named = [match.lower() for match in LEVEL.findall(self.before)]
        return tuple(dict.fromkeys("context" if name.startswith("whole") else name for name in named))

    @property
    def level(self) -> str:
        """The first of them."""
        return self.levels[0]


@dataclass(frozen=True)
class SeenRequest:
    """A request as it came.

    Args:
        path: and query.
        headers: names in small letters.
        raw: the body's bytes.
        body: the same, decoded.
        images: of all messages, in their order.
        number: how many came before it.
        at: when, in seconds since the epoch.
    """

    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: Mapping[str, Any]
    images: tuple[SeenImage, ...]
    number: int
    at: float = field(default_factory=time.time)

    @property
    def key(self) -> str | None:
        """What it says for its key."""
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None

    @property
    def text(self) -> str:
        """All text of its messages."""
        return "\n".join(part["text"] for part in _parts(self.body) if part["type"] == "text")


@dataclass(frozen=True)
class Answer:
    """What the server says.

    Args:
        status: of HTTP.
        body: JSON, or bytes as they are.
        headers: beside Content-Type.
        held: not answered until this is set, or the server ends.
        breaks: the connection is closed after half of the body.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    held: threading.Event | None = None
    breaks: bool = False

    @property
    def content(self) -> bytes:
        """The body's bytes."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Script = Sequence[Answer] | Callable[[SeenRequest], Answer]


def says(
    text: Any,
    *,
    finish_reason: str | None = "stop",
    refusal: str | None = None,
    usage: tuple[int, int] | None = (100, 10),
    first_token: Mapping[str, float] | None = None,
) -> Answer:
    """A completion.

    Args:
        text: the message's content: text, None, or a list of parts.
        finish_reason: why it ended.
        refusal: the message's field; None: it has none.
        usage: tokens of the prompt and of the completion; None: there is nothing of it.
        first_token: candidates -> log-probability, the likeliest first; None: there are no log-probabilities.
    """
    message = {"role": "assistant", "content": text} | ({} if refusal is None else {"refusal": refusal})
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish_reason}
    if first_token is not None:
        choice["logprobs"] = {"content": [_candidates(first_token)] if first_token else []}
    body: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL}
    body["choices"] = [choice]
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Answer(body=body)


def _candidates(log_probabilities: Mapping[str, float]) -> dict[str, Any]:
    rows = [{"token": token, "logprob": value, "bytes": None} for token, value in log_probabilities.items()]
    return {**rows[0], "top_logprobs": rows}


def labels(*names: str, **options: Any) -> Answer:
    """Well-formed."""
    return says(json.dumps({"labels": names}), **options)


def fenced(*names: str, **options: Any) -> Answer:
    """In a code block of Markdown, as models like it."""
    return says(f"```json\n{json.dumps({'labels': names}, indent=2)}\n```", **options)


def prose(*names: str, **options: Any) -> Answer:
    """Sentences before and after the JSON."""
    return says(f"The person seems calm.\n\n{json.dumps({'labels': names})}\n\nI hope that helps!", **options)


def refuses(why: str = "I'm sorry, I can't tell what people feel.") -> Answer:
    """In the interface's field for it."""
    return says(None, refusal=why)


def filtered() -> Answer:
    """Stopped by the server's filter of content."""
    return says("", finish_reason="content_filter")


def cut_off(*names: str) -> Answer:
    """At the limit of tokens, in the middle of the JSON."""
    return says(json.dumps({"labels": names})[:-3], finish_reason="length")


def error(status: int, message: str, **fields: Any) -> Answer:
    """As OpenAI words errors: ``type``, ``param`` and ``code`` beside the message."""
    about = {"message": message, "type": "invalid_request_error", "param": None, "code": None} | fields
    return Answer(status, {"error": about})


def wrong_key(shown: str = "sk-wrong") -> Answer:
    """401 that repeats the key, as OpenAI's nearly does."""
    return error(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key")


def unknown_model(name: str = MODEL) -> Answer:
    """404."""
    return error(404, f"The model `{name}` does not exist or you do not have access to it.", code="model_not_found")


def rate_limited(after: float | None = None, *, date: bool = False, **fields: Any) -> Answer:
    """429; ``after``: seconds of Retry-After, as an HTTP date (counted from now) where ``date``; None: it has none."""
    answer = error(429, "Rate limit reached", **{"type": "requests", "code": "rate_limit_exceeded"} | fields)
    if after is None:
        return answer
    told = formatdate(int(time.time() + after), usegmt=True) if date else f"{after:g}"
    return replace(answer, headers={"Retry-After": told})


def fails(status: int = 500) -> Answer:
    """The server's own fault."""
    return error(status, "The server had an error while processing your request.", type="server_error")


def silence(until: threading.Event | None = None, then: Answer | None = None) -> Answer:
    """Nothing until the event is set, or the server ends; then ``then``."""
    return replace(then or labels(), held=until or threading.Event())


def breaks(answer: Answer | None = None) -> Answer:
    """The connection is closed in the middle of the body."""
    return replace(answer or labels("peace"), breaks=True)


def page(text: str = "<!doctype html><title>Welcome</title><p>It works!", status: int = 200) -> Answer:
    """A web page instead of the interface."""
    return Answer(status, text.encode(), {"Content-Type": "text/html"})


def redirects(url: str, status: int = 307) -> Answer:
    """To somewhere else."""
    return Answer(status, {}, {"Location": url})


class VlmServer:
    """Speaks the interface at a free port of this machine; a context manager, which raises what the script has raised.

    Args:
        script: see this module.
        models: that ``/v1/models`` lists.
        certificate: PEM files of the chain and the key: it speaks TLS.
    """

    def __init__(
        self, script: Script, models: Sequence[str] = (MODEL,), certificate: tuple[Path, Path] | None = None
    ) -> None:
        self.requests: list[SeenRequest] = []
        """Of chat completions, in the order in which they came."""
        self.paths: list[str] = []
        """Of everything that was asked for, method and path."""
        self.in_flight, self.most_in_flight = 0, 0
        self._script, self._models, self._certificate = script, models, certificate
        self._ending = threading.Event()
        self._troubles: list[BaseException] = []
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> VlmServer:
        listening = self._closing.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = listening.getsockname()[1]
        chain, key = map(str, self._certificate) if self._certificate else (None, None)
        config = uvicorn.Config(
            self._app(), log_config=None, log_level="critical", ssl_certfile=chain, ssl_keyfile=key, lifespan="off"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()

        def end() -> None:
            self._ending.set()
            server.should_exit = True
            thread.join(PATIENCE)

        self._closing.callback(end)
        until(lambda: server.started, pause=0.01)
        return self

    def __exit__(self, *raised: object) -> None:
        self._closing.close()
        if self._troubles:
            raise self._troubles[0]

    @property
    def base_url(self) -> str:
        """Of the interface."""
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self.port}/v1"

    def _app(self) -> fastapi.FastAPI:
        app = fastapi.FastAPI(openapi_url=None)

        @app.middleware("http")
        async def keep(request: fastapi.Request, go_on: Any) -> Any:
            self.paths.append(f"{request.method} {request.url.path}")
            return await go_on(request)

        @app.get("/v1/models")
        def models() -> dict[str, Any]:
            rows = [{"id": name, "object": "model", "created": 1, "owned_by": "tests"} for name in self._models]
            return {"object": "list", "data": rows}

        @app.post(COMPLETIONS)
        async def completions(request: fastapi.Request) -> fastapi.Response:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                return await self._answered(request)
            except ClientDisconnect:
                return fastapi.Response(status_code=499)
            finally:
                self.in_flight -= 1

        return app

    async def _answered(self, request: fastapi.Request) -> fastapi.Response:
        raw = await request.body()
        try:
            answer = self._answer(_seen(request, raw, len(self.requests)))
        except Exception as trouble:  # of the test's: it fails by it, see __exit__
            self._troubles.append(trouble)
            answer = error(500, f"the test's script failed: {trouble!r}")
        while answer.held is not None and not (answer.held.is_set() or self._ending.is_set()):
            if await request.is_disconnected():
                break
            await asyncio.sleep(0.02)
        headers = {"Content-Type": "application/json", **answer.headers}
        return (_Broken if answer.breaks else fastapi.Response)(answer.content, answer.status, headers)

    def _answer(self, seen: SeenRequest) -> Answer:
        self.requests.append(seen)
        if callable(self._script):
            return self._script(seen)
        assert seen.number < len(self._script), "asked more often than the script has answers"
        return self._script[seen.number]


class _Broken(fastapi.Response):
    """Half of what it says it is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytes(self.body)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        # uvicorn closes the connection of an application that leaves it at that.


def _seen(request: fastapi.Request, raw: bytes, number: int) -> SeenRequest:
    body = json.loads(raw)
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return SeenRequest(path, dict(request.headers), raw, body, tuple(_images(body)), number)


def _parts(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for message in body["messages"]:
        content = message["content"]
        yield from [{"type": "text", "text": content}] if isinstance(content, str) else content


def _images(body: Mapping[str, Any]) -> Iterator[SeenImage]:
    parts = list(_parts(body))
    everything = "\n".join(part["text"] for part in parts if part["type"] == "text")
    before = {"type": ""}
    for part in parts:
        if part["type"] == "image_url":
            about = part["image_url"]
            match = re.fullmatch(r"data:(image/\w+);base64,(.*)", about["url"], re.DOTALL)
            assert match, f"no image in base64: {about['url'][:80]}"
            told = before["text"] if before["type"] == "text" else everything
            yield SeenImage(base64.b64decode(match[2], validate=True), match[1], about.get("detail"), told)
        before = dict(part)
