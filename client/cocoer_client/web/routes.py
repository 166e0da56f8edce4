"""The gateway's endpoints. What they are for callers is said in ``openapi``."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from cocoer_client.errors import CocoerError
from cocoer_client.web.accept import acceptable, require_acceptable
from cocoer_client.web.asked import Asked, AskedToDraw, read_asked
from cocoer_client.web.problems import Problem, of_error
from cocoer_client.web.recognition import FORMATS, Recognition, format_of
from cocoer_client.web.settings import Settings
from cocoer_client.web.timing import Timing
from cocoer_client.web.upload import Upload, read_upload

PAGE = Path(__file__).with_name("page")
SANE_NAME = re.compile(r"[\w(][\w .,()+-]{0,99}")
READY_TIMEOUT = 2.0
"""Seconds: a probe asks again soon, and must not pile up."""
router = APIRouter()


async def _read(request: Request, kind: type[Asked]) -> tuple[Upload, Any]:
    """The image, and what is asked for."""
    settings: Settings = request.app.state.settings
    upload = await read_upload(request, settings.max_bytes)
    return upload, read_asked(kind, request.query_params, upload.fields)


def _accept(request: Request) -> str | None:
    """The header; several of them count as one."""
    return ", ".join(request.headers.getlist("accept")) or None


def sane_name(filename: str) -> str:
    """The name of an uploaded file if it can be shown, else ``image``; never a path.

    >>> sane_name("my photo (2).jpg"), sane_name("../../etc/passwd"), sane_name("<script>.png"), sane_name("")
    ('my photo (2).jpg', 'image', 'image', 'image')
    """
    return filename if SANE_NAME.fullmatch(filename) else "image"


@router.post("/v1/recognise")
async def recognise(request: Request) -> Response:
    require_acceptable(_accept(request), ["application/json"])
    upload, asked = await _read(request, Asked)
    timing = Timing()
    recognition: Recognition = request.app.state.recognition
    result = await recognition.result(upload.image, asked, timing)
    return JSONResponse(result, headers={"Server-Timing": timing.header()})


@router.post("/v1/annotate")
async def annotate(request: Request) -> Response:
    require_acceptable(_accept(request), list(FORMATS))
    upload, asked = await _read(request, AskedToDraw)
    own = format_of(upload.image)
    kinds = acceptable(_accept(request), [own, *(kind for kind in FORMATS if kind != own)])
    timing = Timing()
    recognition: Recognition = request.app.state.recognition
    image, kind = await recognition.annotated(upload.image, asked, kinds, timing)
    return Response(image, media_type=kind, headers={"Server-Timing": timing.header(), "Vary": "Accept"})


@router.post("/v1/explain")
async def explain(request: Request) -> Response:
    require_acceptable(_accept(request), ["text/html"])
    upload, asked = await _read(request, Asked)
    timing = Timing()
    recognition: Recognition = request.app.state.recognition
    page = await recognition.explained(upload.image, sane_name(upload.filename), asked, timing)
    return HTMLResponse(page, headers={"Server-Timing": timing.header()})


@router.get("/v1/model")
async def model(request: Request) -> Response:
    require_acceptable(_accept(request), ["application/json"])
    try:
        about = await request.app.state.about.about()
    except CocoerError as error:
        raise of_error(error) from error
    return JSONResponse(about.model_dump(mode="json"))


@router.get("/healthz")
async def healthz() -> Response:
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    recognition: Recognition = request.app.state.recognition
    try:
        await asyncio.wait_for(recognition.client.check_ready(), READY_TIMEOUT)
    except (CocoerError, asyncio.TimeoutError):
        raise Problem("unavailable", "the server behind this gateway does not answer, or has no ready model") from None
    return Response("ready\n", media_type="text/plain")


@router.get("/")
async def index() -> Response:
    return FileResponse(PAGE / "index.html", media_type="text/html")
