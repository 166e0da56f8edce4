"""The gateway's endpoints. What they are for callers is in ``openapi``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from cocoer_client.errors import CocoerError
from cocoer_client.reading import warnings_of
from cocoer_client.web.admission import Admission
from cocoer_client.web.asked import Asked, AskedToDraw, read_asked
from cocoer_client.web.problems import of_error
from cocoer_client.web.recognition import FORMATS
from cocoer_client.web.settings import Settings

PAGE = Path(__file__).with_name("page")
router = APIRouter()


@contextlib.asynccontextmanager
async def _admitted(request: Request, kind: type[Asked]) -> AsyncIterator[tuple[bytes, Any]]:
    """The image, and what is asked for, of a request that is let in."""
    admission: Admission = request.app.state.admission
    async with admission.admitted(request) as upload:
        yield upload.image, read_asked(kind, request.query_params, upload.fields)


@router.post("/v1/recognise")
async def recognise(request: Request) -> Response:
    async with _admitted(request, Asked) as (image, asked):
        return JSONResponse(await request.app.state.recognition.result(image, asked))


@router.post("/v1/annotate")
async def annotate(request: Request) -> Response:
    kind = next((kind for kind in FORMATS if kind in request.headers.get("accept", "")), "image/png")
    async with _admitted(request, AskedToDraw) as (image, asked):
        return Response(await request.app.state.recognition.annotated(image, asked, kind), media_type=kind)


@router.post("/v1/explain")
async def explain(request: Request) -> Response:
    async with _admitted(request, Asked) as (image, asked):
        return HTMLResponse(await request.app.state.recognition.explained(image, asked))


@router.get("/v1/model")
async def model(request: Request) -> Response:
    """The model behind the gateway, its labels, and what this gateway takes."""
    try:
        info = await request.app.state.recognition.client.model_info()
    except CocoerError as error:
        raise of_error(error) from error
    content = info.model_dump(mode="json")
    settings: Settings = request.app.state.settings
    warnings = warnings_of({"model": content, "image": {}})
    return JSONResponse({"model": content, "warnings": warnings, "limits": {"max_bytes": settings.max_bytes}})


@router.get("/healthz")
async def healthz() -> Response:
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    try:
        await request.app.state.recognition.client.check_ready()
    except CocoerError as error:
        raise of_error(error) from error
    return Response("ready\n", media_type="text/plain")


@router.get("/")
async def index() -> Response:
    return FileResponse(PAGE / "index.html", media_type="text/html")
