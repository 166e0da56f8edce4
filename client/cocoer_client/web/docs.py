"""``/openapi.json``, and ``/docs``: Swagger UI, whose files come with the package ``fastapi_swagger``."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from pathlib import Path

from fastapi import APIRouter, Request, Response

from cocoer_client.web import openapi
from cocoer_client.web.problems import Problem

OWN = Path(__file__).with_name("swagger")
FILES = {
    "own.css": "text/css",
    "start.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
"""Below ``/docs`` -> media type."""
router = APIRouter()


@functools.cache
def content_of(name: str) -> bytes:
    """A file of the page: one of ours, else Swagger UI's."""
    own = OWN / name
    found = own if own.is_file() else resources.files("fastapi_swagger") / "resources" / name
    return found.read_bytes()


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    return _answer(request, openapi.text().encode(), "application/json")


@router.get("/docs")
async def docs(request: Request) -> Response:
    return _answer(request, content_of("index.html"), "text/html")


@router.get("/docs/{name}")
async def file(request: Request, name: str) -> Response:
    if name not in FILES:
        raise Problem("not-found", f"there is no /docs/{name[:100]}; /docs is the page")
    return _answer(request, content_of(name), FILES[name])


def _answer(request: Request, content: bytes, media_type: str) -> Response:
    """What changes only with another version of the gateway: asked for anew each time, sent once."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if tag in [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)
