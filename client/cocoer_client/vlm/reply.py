"""What a vision-language model's server answers, read for what it is, not for what it should be."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cocoer_client.vlm.failures import RequestFailed, no_interface
from cocoer_client.vlm.privacy import scrubbed
from cocoer_client.vlm.settings import EndpointOptions
from cocoer_client.vlm.told import is_page, read_told


@dataclass(frozen=True)
class Usage:
    """Tokens, as the server counts them; 0 where it does not say."""

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
        finish_reason: why it ended: ``stop``, ``length``, ``content_filter``, ...; empty: the server does not say.
        usage: what it cost.
        first_token: candidates of the first token -> log-probability; empty: not asked for, or not given.
    """

    text: str
    refusal: str = ""
    finish_reason: str = "stop"
    usage: Usage = Usage()
    first_token: Mapping[str, float] = field(default_factory=dict)


def read_reply(text: str, options: EndpointOptions) -> Reply:
    """A response's body, of status 200.

    Servers leave out what OpenAI's never do (usage, content, choices), and some answer errors with 200.

    Raises:
        RequestFailed: there is no answer in it.
        EndpointUnusable: it is a web page.
    """
    try:
        body = json.loads(text)
    except ValueError:
        if is_page(text):
            raise no_interface(options.base_url) from None
        raise RequestFailed(f"{options.base_url} answers what is no JSON: {_shown(text, options)}") from None
    choice = _first(_of(body, "choices"))
    if not isinstance(choice, dict) or choice.get("error") or not isinstance(choice.get("message"), dict):
        about = choice if isinstance(choice, dict) and choice.get("error") else body
        said = read_told(200, json.dumps(about), options.key).message
        raise RequestFailed(f"{options.base_url} answers without a choice: {_shown(said, options)}")
    message = choice["message"]
    content, refused = _text(message.get("content"))
    return Reply(
        content,
        _text(message.get("refusal"))[0] or refused,
        str(choice.get("finish_reason") or ""),
        _usage(_of(body, "usage")),
        _first_token(choice.get("logprobs")),
    )


def _shown(text: str, options: EndpointOptions) -> str:
    return scrubbed(text, options.key) or "nothing"


def _of(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, dict) else None


def _first(items: Any) -> Any:
    return items[0] if isinstance(items, list) and items else None


def _text(content: Any) -> tuple[str, str]:
    """Text and refusal of a message's content: text, None, or a list of parts."""
    if isinstance(content, str):
        return _sound(content), ""
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    text, refusal = ("".join(str(part.get(name) or "") for part in parts) for name in ("text", "refusal"))
    return _sound(text), _sound(refusal)


def _sound(text: str) -> str:
    r"""Without half characters (``"\ud83d"`` alone), which JSON may hold and no file can.

    >>> _sound("a\ud83d")
    'a?'
    """
    return text.encode("utf-8", "replace").decode()


def _usage(usage: Any) -> Usage:
    def count(name: str) -> int:
        value = _of(usage, name)
        return value if isinstance(value, int) and value > 0 else 0

    return Usage(count("prompt_tokens"), count("completion_tokens"))


def _first_token(logprobs: Any) -> dict[str, float]:
    """Of two candidates that are written alike (halves of a character, say), the sum of the probabilities."""
    token = _first(_of(logprobs, "content"))
    candidates = _of(token, "top_logprobs") or [token]
    found: dict[str, float] = {}
    for one in candidates if isinstance(candidates, list) else ():
        text, value = _of(one, "token"), _of(one, "logprob")
        if isinstance(text, str) and isinstance(value, (int, float)) and math.isfinite(value):
            text = _sound(text)
            found[text] = math.log(math.exp(found[text]) + math.exp(value)) if text in found else float(value)
    return found
