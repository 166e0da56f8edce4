"""The gateway's endpoints. What they are for callers is said in ``openapi``."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from cocoer_client.errors import CocoerError
from cocoer_client.web.accept import acceptable, require_acceptable
from cocoer_client.web.admission import Admission
from cocoer_client.web.asked import Asked, AskedToDraw, read_asked
from cocoer_client.web.problems import Problem, of_error
from cocoer_client.web.recognition import FORMATS, Call, Recognition, format_of
from cocoer_client.web.upload import Upload

PAGE = Path(__file__).with_name("page")
SANE_NAME = re.compile(r"[\w(][\w .,()+-]{0,99}")
READY_TIMEOUT = 2.0
"""Seconds: a probe asks again soon, and must not pile up."""
router = APIRouter()


@contextlib.asynccontextmanager
async def _admitted(request: Request, kind: type[Asked]) -> AsyncIterator[tuple[Upload, Any]]:
    """The image, and what is asked for, of a request that is let in."""
    admission: Admission = request.app.state.admission
    async with admission.admitted(request) as upload:
        yield upload, read_asked(kind, request.query_params, upload.fields)


def _call(request: Request) -> Call:
    call = Call(getattr(request.state, "request_id", ""))
    request.state.timing = call.timing  # for the metrics
    return call


def _recognition(request: Request) -> Recognition:
    recognition: Recognition = request.app.state.recognition
    return recognition


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
    call, recognition = _call(request), _recognition(request)
    async with _admitted(request, Asked) as (upload, asked):
        result = await recognition.result(upload.image, asked, call)
    return JSONResponse(result, headers={"Server-Timing": call.timing.header()})


@router.post("/v1/annotate")
async def annotate(request: Request) -> Response:
    require_acceptable(_accept(request), list(FORMATS))
    call, recognition = _call(request), _recognition(request)
    async with _admitted(request, AskedToDraw) as (upload, asked):
        own = format_of(upload.image)
        kinds = acceptable(_accept(request), [own, *(kind for kind in FORMATS if kind != own)])
        image, kind = await recognition.annotated(upload.image, asked, kinds, call)
    return Response(image, media_type=kind, headers={"Server-Timing": call.timing.header(), "Vary": "Accept"})


@router.post("/v1/explain")
async def explain(request: Request) -> Response:
    require_acceptable(_accept(request), ["text/html"])
    call, recognition = _call(request), _recognition(request)
    async with _admitted(request, Asked) as (upload, asked):
        page = await recognition.explained(upload.image, sane_name(upload.filename), asked, call)
    return HTMLResponse(page, headers={"Server-Timing": call.timing.header()})


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
    if request.app.state.stopping:
        raise Problem("unavailable", "this gateway is about to end")
    try:
        await asyncio.wait_for(_recognition(request).client.check_ready(), READY_TIMEOUT)
    except (CocoerError, asyncio.TimeoutError):
        raise Problem("unavailable", "the server behind this gateway does not answer, or has no ready model") from None
    return Response("ready\n", media_type="text/plain")


@router.get("/")
async def index() -> Response:
    return FileResponse(PAGE / "index.html", media_type="text/html")
