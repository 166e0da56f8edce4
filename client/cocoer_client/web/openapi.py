"""The gateway's OpenAPI document (3.1): ``python -m cocoer_client.web.openapi docs/openapi.json``.

It is the same for every gateway: what depends on one, ``/v1/model`` tells.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cocoer_client.files import replace_file
from cocoer_client.schema import definitions
from cocoer_client.web import components
from cocoer_client.web.asked import Asked, AskedToDraw
from cocoer_client.web.components import REQUEST_ID_HEADER, SCHEMAS, by_status, examples, never_null, reference
from cocoer_client.web.recognition import FORMATS

DESCRIPTION = """\
Emotion recognition in context (CocoER, CVPR 2025): send an image, and get for each person which of the 26 categories
of EMOTIC they appear to feel, and how the method came to it.

**Intended use.** The model predicts how EMOTIC's annotators would label an image. It does not know what anybody feels,
and must not be used as if it did. It is meant for research, evaluation, and demonstration with the consent of the
people shown. In the EU, emotion recognition in workplaces and educational institutions is prohibited, save for medical
or safety reasons: [Regulation (EU) 2024/1689, Article 5(1)(f)](https://eur-lex.europa.eu/eli/reg/2024/1689/oj).

**Errors** are problem details (RFC 9457) with a `reason` for programs. Those with status 429, 503 and 504 may pass:
ask again after `Retry-After` seconds. All others stay what they are until the request changes.

**Keys.** Where the gateway asks for a key, everything under `/v1` needs one.

Nothing of an image or a result is kept or logged.
"""
TAGS = [
    {"name": "recognition", "description": "An image in; RESULT, an annotated image or a page out."},
    {"name": "operation", "description": "Whether the gateway and the server behind it work."},
]
BINARY = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
BOXES = '[{"body": [94, 20, 400, 512], "head": [177, 66, 272, 161]}]'
ANY_TIME = (400, 403, 421, 431, 500)
"""Statuses of problems that any operation can have."""
OF_V1 = (401, 406, 429, 503, 504)
OF_BODIES = (408, 413, 415, 422)


def document() -> dict[str, Any]:
    """The document."""
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "CocoER",
            "version": importlib.metadata.version("cocoer-client"),
            "summary": "Emotion recognition in context, over HTTP.",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": ".", "description": "This gateway."}],
        "tags": TAGS,
        "paths": paths(),
        "components": {
            "schemas": components.schemas(),
            "responses": components.responses(),
            "headers": components.HEADERS,
            "securitySchemes": components.SECURITY_SCHEMES,
            "parameters": {"RequestId": _REQUEST_ID_PARAMETER},
        },
    }


def paths() -> dict[str, Any]:
    """All that is documented; not the page and the documents themselves."""
    result = {"schema": reference("Result"), "examples": {"astronaut": _example("One person", "result")}}
    images = {kind: {"schema": BINARY} for kind in FORMATS}
    about = {"schema": reference("About"), "examples": {"synthetic": _example("A build for tests", "about")}}
    return {
        "/v1/recognise": _posted(
            "recognise",
            "Recognise the emotions of the persons in an image",
            "Answers with RESULT, as the server sent it. Where nobody is found, `persons` is empty.",
            Asked,
            {"description": "RESULT.", "content": {"application/json": result}},
        ),
        "/v1/annotate": _posted(
            "annotate",
            "Draw what is recognised",
            "The image with boxes, labels and bars. `Accept` says in which format; else it is the image's own, and PNG "
            "for BMP. Of the file's metadata, only the colour profile is kept.",
            AskedToDraw,
            {"description": "The annotated image.", "content": images},
        ),
        "/v1/explain": _posted(
            "explain",
            "Show how the method came to its answer",
            "A page of HTML that needs nothing else: crops, the levels' labels before and after coordination, the "
            "order of exclusion.",
            Asked,
            {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}},
        ),
        "/v1/model": _got(
            "getModel",
            "The model, its labels, and what is taken",
            "recognition",
            {"description": "As the server says; some seconds old at most.", "content": {"application/json": about}},
            OF_V1,
        ),
        "/healthz": _got("isAlive", "Whether the gateway is alive", "operation", _plain("It is.", "ok\n")),
        "/readyz": _got(
            "isReady", "Whether the server's model is ready", "operation", _plain("It is.", "ready\n"), (503,)
        ),
        "/metrics": _got(
            "getMetrics",
            "Figures for Prometheus",
            "operation",
            _plain("Prometheus' text format.", "# HELP cocoer_web_requests_in_flight Requests ...\n"),
        ),
    }


def _posted(name: str, summary: str, description: str, asked: type[Asked], answer: Mapping[str, Any]) -> dict[str, Any]:
    """An operation that takes an image."""
    fields = fields_of(asked)
    form = {"type": "object", "properties": {"image": BINARY | {"description": "The image's file."}, **fields}}
    # The form is not the first: Swagger UI fills its fields in, with values that it makes up, and sends them.
    content = {
        "application/octet-stream": {"schema": BINARY},
        "multipart/form-data": {
            "schema": {**form, "required": ["image"]},
            "encoding": {"image": {"contentType": "image/*, application/octet-stream"}},
        },
        "image/*": {"schema": BINARY},
    }
    headers = {**REQUEST_ID_HEADER, "Server-Timing": {"$ref": "#/components/headers/ServerTiming"}}
    return {
        "post": {
            "operationId": name,
            "tags": ["recognition"],
            "summary": summary,
            "description": f"{description}\n\nAn option is given in the query or as a field of the form, not as both.",
            "parameters": [*(_in_query(asked, *field) for field in fields.items()), _REQUEST_ID],
            "requestBody": {
                "description": "JPEG, PNG, WebP or BMP: as the file `image` of a form, or as the body itself.",
                "required": True,
                "content": content,
            },
            "responses": _responses({**answer, "headers": headers}, (*OF_V1, *OF_BODIES)),
            "security": _SECURITY,
        }
    }


def _got(name: str, summary: str, tag: str, answer: Mapping[str, Any], statuses: Sequence[int] = ()) -> dict[str, Any]:
    operation = {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "parameters": [_REQUEST_ID],
        "responses": _responses({**answer, "headers": REQUEST_ID_HEADER}, statuses),
        "security": _SECURITY if 401 in statuses else [],
    }
    return {"get": operation}


_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}, {}]
"""The last: of gateways that ask for no key."""
_REQUEST_ID = {"$ref": "#/components/parameters/RequestId"}
_REQUEST_ID_PARAMETER = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "The caller's own name for the request; what is no such name is replaced.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
}


def fields_of(asked: type[Asked]) -> dict[str, Any]:
    """Options -> their schemas, as text in a query or a form."""
    schema = definitions(asked, template=SCHEMAS + "{model}")[asked.__name__]
    fields: dict[str, Any] = {}
    for name, field in schema["properties"].items():
        never_null(field)
        if field["type"] == "array":
            # Said in words: Swagger UI takes text with a contentMediaType for a file, and an example for a value.
            told = f"{field['description']} A list of `Boxes`, for instance `{BOXES}`."
            field = {"type": "string", "description": told}
        fields[name] = field
    return fields


def _in_query(asked: type[Asked], name: str, field: Mapping[str, Any]) -> dict[str, Any]:
    schema = {key: value for key, value in field.items() if key != "description"}
    # Not in the form: Swagger UI sends what is usual, and would send it twice.
    if (usual := asked.model_fields[name].default) is not None:
        schema["default"] = usual
    return {"name": name, "in": "query", "description": field["description"], "schema": schema}


def _responses(answer: Mapping[str, Any], statuses: Sequence[int]) -> dict[str, Any]:
    problems = sorted({*ANY_TIME, *statuses} & set(by_status()))
    return {
        "200": answer,
        **{str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in problems},
    }


def _example(summary: str, name: str) -> dict[str, Any]:
    return {"summary": summary, "value": examples()[name]}


def _plain(description: str, text: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"text/plain": {"schema": {"type": "string"}, "examples": {"yes": {"value": text}}}},
    }


@functools.cache
def text() -> str:
    """The document as a file."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the gateway's OpenAPI document.")
    parser.add_argument("path", type=Path, metavar="FILE", help="where to, for instance docs/openapi.json")
    path: Path = parser.parse_args(argv).path
    replace_file(path, lambda temporary: temporary.write_text(text(), encoding="utf-8"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
