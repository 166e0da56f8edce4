"""What the operations of the OpenAPI document share: schemas, responses, headers, keys. Made from models and tables."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cocoer_client.errors import RequestTimeout, ServerBusy, ServerError, ServerUnavailable
from cocoer_client.results import Result
from cocoer_client.schema import definitions
from cocoer_client.web.about import About
from cocoer_client.web.asked import Asked, Boxes
from cocoer_client.web.problems import MEDIA_TYPE, REASONS, RETRY_AFTER, TYPE, Problem, of_error

EXAMPLES = Path(__file__).with_name("examples.json")
"""What a gateway answered: written by ``tests/api_examples.py``."""
REQUEST_ID = "0f8fad5bd9cb469fa165708674a1f5d6"
NEVER_SENT = ("gone",)
"""Reasons of the log and the metrics alone: the caller has hung up."""
SCHEMAS = "#/components/schemas/"
DETAILS = {
    "request": "person 0: boxes are {'body': [x1, y1, x2, y2], 'head': [x1, y1, x2, y2]} in pixels",
    "key": "send a key: Authorization: Bearer KEY, or X-API-Key: KEY",
    "origin": "pages of https://elsewhere.example may not ask this gateway",
    "host": "this gateway does not answer for elsewhere.example",
    "head": "the URL and the header fields have more than 65536 bytes, the most that is taken",
    "slow": "the body was not there within 30 s",
    "caller": "this key has as many requests under way as it may; ask again when one is answered",
    "not-found": "there is no /v2; /docs lists what there is",
    "method": "/v1/recognise takes POST, not GET",
    **{
        reason: of_error(error("")).detail
        for reason, error in {
            "busy": ServerBusy,
            "unavailable": ServerUnavailable,
            "timeout": RequestTimeout,
            "internal": ServerError,
        }.items()
    },
}
"""Of problems that ``EXAMPLES`` has none of, since they take more than a request."""


@functools.cache
def examples() -> dict[str, Any]:
    """``result``: RESULT; ``about``: of ``/v1/model``; ``details``: reason -> the detail of such a problem."""
    content: dict[str, Any] = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    return content


def reference(name: str) -> dict[str, str]:
    """To a schema of the document."""
    return {"$ref": SCHEMAS + name}


def schemas() -> dict[str, Any]:
    """RESULT's parts, what ``/v1/model`` answers, boxes, and a problem for each status."""
    whole = definitions(Result, About, Boxes, Asked, template=SCHEMAS + "{model}")
    del whole["Asked"]  # its fields are parameters
    for field in whole["Boxes"]["properties"].values():
        never_null(field)
    return whole | {f"Problem{status}": _problem(status, reasons) for status, reasons in by_status().items()}


def by_status() -> dict[int, list[str]]:
    """Status -> the reasons that have it, and that somebody gets to see."""
    found: dict[int, list[str]] = {}
    for reason, (status, _) in REASONS.items():
        if reason not in NEVER_SENT:
            found.setdefault(status, []).append(reason)
    return dict(sorted(found.items()))


def _problem(status: int, reasons: Iterable[str]) -> dict[str, Any]:
    named = list(reasons)
    properties: dict[str, Any] = {
        "type": {"type": "string", "enum": [TYPE + reason for reason in named], "description": "Names the reason."},
        "title": {"type": "string", "description": "What the reason means."},
        "status": {"type": "integer", "const": status, "description": "The response's."},
        "detail": {"type": "string", "description": "What was wrong with this very request, and what to do."},
        "reason": {"type": "string", "enum": named, "description": "For programs; also in the server's metrics."},
        "request_id": {"type": "string", "description": "Also in X-Request-Id, and in the logs."},
    }
    return {
        "type": "object",
        "description": f"{HTTPStatus(status).phrase}, as problem details (RFC 9457).",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def never_null(schema: dict[str, Any]) -> None:
    """The schema of what is left out rather than null."""
    schema.pop("default", None)
    if "anyOf" in schema:
        schema |= next(kind for kind in schema.pop("anyOf") if kind != {"type": "null"})


def responses() -> dict[str, Any]:
    """A problem for each status, with an example for each reason."""
    return {f"Problem{status}": _response(status, reasons) for status, reasons in by_status().items()}


def _response(status: int, reasons: Iterable[str]) -> dict[str, Any]:
    named = list(reasons)
    content = {
        "schema": reference(f"Problem{status}"),
        "examples": {reason: {"summary": REASONS[reason][1], "value": problem(reason)} for reason in named},
    }
    headers = dict(REQUEST_ID_HEADER)
    if set(named) & set(RETRY_AFTER):
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    titles = "; ".join(REASONS[reason][1] for reason in named)
    return {"description": f"{titles}.", "headers": headers, "content": {MEDIA_TYPE: content}}


def problem(reason: str) -> dict[str, Any]:
    """An example of a problem, as it is sent."""
    detail = examples()["details"].get(reason) or DETAILS[reason]
    return Problem(reason, detail).content(REQUEST_ID)


REQUEST_ID_HEADER: Mapping[str, Any] = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
HEADERS = {
    "RequestId": {
        "description": "Of this request: the caller's own, or a new one. The logs of gateway and server have it.",
        "schema": {"type": "string"},
        "example": REQUEST_ID,
    },
    "RetryAfter": {
        "description": "Seconds after which it makes sense to ask again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "ServerTiming": {
        "description": "Milliseconds that the server (triton) and drawing (draw) took.",
        "schema": {"type": "string"},
        "example": "triton;dur=84.2, draw;dur=31.0",
    },
}
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the gateway asks for one."},
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same key in a header of its own.",
    },
}
