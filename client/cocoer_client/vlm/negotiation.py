"""What a server does not take of a request, learnt from its refusals, and asked for otherwise from then on."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cocoer_client.vlm.failures import FEW_IMAGES, NO_IMAGES, TOO_LONG
from cocoer_client.vlm.told import Told

FEWER = 5
"""Candidates of the first token, where 20 are too many."""
STATUSES = (400, 403, 422, 500, 501)
"""Of refusals: 403 is OpenAI's where a model gives no log-probabilities, 500 old llama.cpp's for what it can't use."""
REFUSED = re.compile(
    r"unsupported|not supported|n.t support|not support|unknown|unrecogni[sz]ed|unexpected|extra inputs|"
    r"extra_forbidden|not permitted|not allowed|not enabled|enabled only|unavailable|available only|"
    r"not available|not implemented|invalid|disabled|must (?:be|contain)|missing field|deprecated|only the default|"
    r"incompatible|greater than|at most|less than|exceed",
    re.IGNORECASE,
)
TOO_LARGE = re.compile(r"too (?:large|long|high|small)|supports at most|maximum|context|output limit", re.IGNORECASE)
"""Said of a limit of tokens that the server knows, but not of this size."""
NAMES: Mapping[str, re.Pattern[str]] = {
    "format": re.compile(r"response_format|json_schema|json_object|structured.outputs?|guided_json", re.IGNORECASE),
    "limit": re.compile(r"max_(?:completion_)?tokens", re.IGNORECASE),
    "temperature": re.compile(r"\btemperature\b", re.IGNORECASE),
    "candidates": re.compile(r"top_logprobs|sample logprobs of", re.IGNORECASE),
    "logprobs": re.compile(r"(?<!top_)(?<!sample )logprobs", re.IGNORECASE),
    "detail": re.compile(r"image_url\W{1,6}detail|[`'\"]detail[`'\"]|(?:^|\.)detail$", re.IGNORECASE),
}
"""Parameter -> how servers name it."""
LOCATION = re.compile(r"'loc': \(([^)]*)\)")
"""Of Pydantic's errors that are told as Python prints them (old vLLM)."""
Body = dict[str, Any]
Change = Callable[[Body], Body]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Way:
    """Another way to ask.

    Args:
        told: what it is, for the record.
        change: makes it of a body.
    """

    told: str
    change: Change


class Negotiation:
    """Of one run with one server; threads may share it."""

    def __init__(self) -> None:
        self._steps = dict.fromkeys(WAYS, 0)
        self._lock = threading.Lock()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is asked for otherwise."""
        return tuple(dict.fromkeys(WAYS[name][steps - 1].told for name, steps in self._steps.items() if steps))

    def applied(self, wanted: Mapping[str, Any]) -> Body:
        """A body as the server takes it, as far as is known."""
        body = dict(wanted)
        for name, steps in self._steps.items():
            if steps:
                body = WAYS[name][steps - 1].change(body)
        return body

    def learn(self, wanted: Mapping[str, Any], sent: Body, told: Told) -> bool:
        """Whether it makes sense to ask again, otherwise: a parameter is refused that can be done without.

        Args:
            wanted: the body before ``applied``.
            sent: and after.
            told: the refusal.
        """
        with self._lock:
            if self.applied(wanted) != sent:  # by what another thread has learnt meanwhile
                return True
            for name in refused(told, sent):
                if self._steps[name] < len(WAYS[name]):
                    self._steps[name] += 1
                    way = WAYS[name][self._steps[name] - 1]
                    logger.info("asked from now on with %s; the server said: %s", way.told, told.message)
            return self.applied(wanted) != sent


def refused(told: Told, sent: Mapping[str, Any]) -> list[str]:
    """The parameters, as ``NAMES`` has them, that a refusal is about: of those that were sent."""
    if told.status not in STATUSES or any(map(told.says, (NO_IMAGES, FEW_IMAGES, TOO_LONG))):
        return []
    present = [name for name in NAMES if _has(sent, name)]
    found = list(_by_place(told, present))
    if not found and REFUSED.search(told.message):
        found = _by_text(told.message, present)
    if TOO_LARGE.search(told.message):
        found = [name for name in found if name != "limit"]
    return found


def _by_place(told: Told, present: list[str]) -> Iterator[str]:
    places = [*told.places, *(place.replace("', '", ".").strip("', ") for place in LOCATION.findall(told.message))]
    for name in present:
        if any(NAMES[name].search(place) for place in places):
            yield name


def _by_text(message: str, present: list[str]) -> list[str]:
    """The one that is named first: what is named after it may be what to use instead."""
    first = {name: match.start() for name in present if (match := NAMES[name].search(message))}
    return sorted(first, key=first.__getitem__)[:1]


def _has(body: Mapping[str, Any], name: str) -> bool:
    if name == "detail":
        return any("detail" in part.get("image_url", ()) for part in _parts(body))
    keys = {
        "format": ("response_format",), "limit": ("max_tokens", "max_completion_tokens"),
        "temperature": ("temperature",), "candidates": ("top_logprobs",), "logprobs": ("logprobs",),
    }  # fmt: skip
    return any(key in body for key in keys[name])


def _parts(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for message in body["messages"]:
        if isinstance(message["content"], list):
            yield from message["content"]


def _without(*names: str) -> Change:
    return lambda body: {name: value for name, value in body.items() if name not in names}


def _any_json(body: Body) -> Body:
    return body | {"response_format": {"type": "json_object"}} if "response_format" in body else body


def _completion_tokens(body: Body) -> Body:
    limit = body.get("max_tokens")
    return _without("max_tokens")(body) | ({} if limit is None else {"max_completion_tokens": limit})


def _fewer(body: Body) -> Body:
    return body | {"top_logprobs": FEWER} if "top_logprobs" in body else body


def _without_detail(body: Body) -> Body:
    return body | {"messages": [_plain(message) for message in body["messages"]]}


def _plain(message: Mapping[str, Any]) -> Mapping[str, Any]:
    content = message["content"]
    if not isinstance(content, list):
        return message
    return {**message, "content": [_plain_part(part) for part in content]}


def _plain_part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    if "image_url" not in part:
        return part
    return {**part, "image_url": {"url": part["image_url"]["url"]}}


NO_PROBABILITIES = Way("no log-probabilities", _without("logprobs", "top_logprobs"))
WAYS: Mapping[str, tuple[Way, ...]] = {
    "format": (
        Way("response_format json_object instead of json_schema", _any_json),
        Way("no response_format: JSON is asked for by the prompt alone", _without("response_format")),
    ),
    "limit": (
        Way("max_completion_tokens instead of max_tokens: what a model thinks counts, too", _completion_tokens),
        Way("no limit of an answer's tokens", _without("max_tokens", "max_completion_tokens")),
    ),
    "temperature": (
        Way("the server's temperature instead of 0: answers may differ from run to run", _without("temperature")),
    ),
    "candidates": (Way(f"{FEWER} candidates of the first token instead of 20", _fewer), NO_PROBABILITIES),
    "logprobs": (NO_PROBABILITIES,),
    "detail": (Way("no detail of images", _without_detail),),
}
"""Parameter -> the ways to ask where it is refused, one after the other."""
