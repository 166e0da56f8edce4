"""What a server says where it does not answer: interfaces that are OpenAI's word and place their errors differently."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cocoer_client.vlm.privacy import scrubbed

PAGE = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
MAX_SEARCHED = 600
"""Characters of a message that are looked through: servers repeat requests in it, with the names of all parameters."""


@dataclass(frozen=True)
class Told:
    """An error as the server tells it.

    Args:
        status: of HTTP.
        message: in its words, on one line, without keys and images.
        codes: its code and type, in small letters.
        places: names of parameters, where it has fields for them: ``response_format``, ``messages[1].content``.
        is_page: a web page.
        wait: seconds or a date, where the server says when to ask again.
    """

    status: int
    message: str
    codes: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    is_page: bool = False
    wait: str = ""

    def says(self, pattern: re.Pattern[str]) -> bool:
        """Whether the message or a code has it."""
        return any(pattern.search(text) for text in (self.message, *self.codes))


def read_told(status: int, text: str, key: str = "") -> Told:
    """Of a response's body.

    Args:
        status: of HTTP.
        text: OpenAI's ``{"error": {"message", "type", "param", "code"}}``; the same without ``error`` (old vLLM's);
            with text for ``error`` (LM Studio's, TGI's); FastAPI's ``detail``, text or a list (Triton's,
            transformers'); or no JSON at all.
        key: that must not be in the message.
    """
    try:
        body = json.loads(text)
    except ValueError:
        if is_page(text):
            return Told(status, "a web page", is_page=True)
        return Told(status, scrubbed(text, key, MAX_SEARCHED))
    if isinstance(body, list) and len(body) == 1:  # Gemini's
        body = body[0]
    inner = body.get("error", body) if isinstance(body, dict) else body
    about = inner if isinstance(inner, dict) else {}
    places = [*_locations(body), about.get("param")]
    return Told(
        status,
        scrubbed(_message(inner), key, MAX_SEARCHED),
        tuple(str(about[name]).lower() for name in ("code", "type") if about.get(name)),
        tuple(place for place in places if isinstance(place, str) and place),
    )


def is_page(text: str) -> bool:
    """Whether it is a web page."""
    return PAGE.match(text) is not None


def _message(inner: Any) -> str:
    if isinstance(inner, list):
        return "; ".join(_message(one) for one in inner)
    if not isinstance(inner, dict):
        return str(inner)
    if "msg" in inner:  # Pydantic's; what it repeats of the request is left out
        return f"{_dotted(inner.get('loc'))}: {inner['msg']}"
    for name in ("message", "detail", "error", "error_message"):
        if inner.get(name):
            metadata = inner.get("metadata")
            raw = metadata.get("raw") if isinstance(metadata, dict) else None  # OpenRouter's: whom it has asked
            return _message(inner[name]) + (f": {raw}" if raw else "")
    return json.dumps(inner)


def _locations(body: Any) -> Iterator[str]:
    """Of Pydantic's errors, wherever they are in it."""
    if isinstance(body, list):
        for one in body:
            yield from _locations(one)
    elif isinstance(body, dict):
        if isinstance(body.get("loc"), list):
            yield _dotted(body["loc"])
            return
        for one in body.values():
            yield from _locations(one)


def _dotted(location: Any) -> str:
    """``["body", "response_format", "type"]`` -> ``response_format.type``."""
    parts = [str(part) for part in location] if isinstance(location, list) else []
    return ".".join(parts[1:] if parts[:1] == ["body"] else parts)
