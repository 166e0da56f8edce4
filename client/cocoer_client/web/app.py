"""The gateway as an ASGI application."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from cocoer_client.aio import AsyncCocoerClient
from cocoer_client.errors import CocoerError
from cocoer_client.reading import warnings_of
from cocoer_client.web.asked import Asked, AskedToDraw, read_asked
from cocoer_client.web.problems import MEDIA_TYPE, Problem, of_error
from cocoer_client.web.recognition import FORMATS, Recognition
from cocoer_client.web.settings import Settings
from cocoer_client.web.upload import read_upload

PAGE = Path(__file__).with_name("page")


def create_app(settings: Settings) -> FastAPI:
    """The gateway, for uvicorn or any other server of ASGI."""
    app = FastAPI(title="CocoER", lifespan=_lifespan, docs_url=None, redoc_url=None)
    app.state.settings = settings
    app.add_exception_handler(Problem, _answer_problem)
    app.add_api_route("/v1/recognise", recognise, methods=["POST"])
    app.add_api_route("/v1/annotate", annotate, methods=["POST"])
    app.add_api_route("/v1/explain", explain, methods=["POST"])
    app.add_api_route("/v1/model", model, methods=["GET"])
    app.add_api_route("/healthz", healthz, methods=["GET"])
    app.add_api_route("/readyz", readyz, methods=["GET"])
    app.add_api_route("/", index, methods=["GET"], include_in_schema=False)
    app.mount("/page", StaticFiles(directory=PAGE))
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    threads = ThreadPoolExecutor(settings.draw_threads, "draw")
    client = AsyncCocoerClient(settings.url, retries=settings.retries, **settings.connection.arguments())
    async with client:
        app.state.recognition = Recognition(client, threads)
        yield
    threads.shutdown(cancel_futures=True)


async def _answer_problem(request: Request, problem: Any) -> JSONResponse:
    content = problem.content(getattr(request.state, "request_id", ""))
    return JSONResponse(content, problem.status, problem.headers, media_type=MEDIA_TYPE)


async def _read(request: Request, kind: type[Asked]) -> tuple[bytes, Any]:
    """The image, and what is asked for."""
    settings: Settings = request.app.state.settings
    upload = await read_upload(request, settings.max_bytes)
    return upload.image, read_asked(kind, request.query_params, upload.fields)


async def recognise(request: Request) -> JSONResponse:
    image, asked = await _read(request, Asked)
    return JSONResponse(await request.app.state.recognition.result(image, asked))


async def annotate(request: Request) -> Response:
    image, asked = await _read(request, AskedToDraw)
    kind = next((kind for kind in FORMATS if kind in request.headers.get("accept", "")), "image/png")
    return Response(await request.app.state.recognition.annotated(image, asked, kind), media_type=kind)


async def explain(request: Request) -> HTMLResponse:
    image, asked = await _read(request, Asked)
    return HTMLResponse(await request.app.state.recognition.explained(image, asked))


async def model(request: Request) -> JSONResponse:
    """The model behind the gateway, its labels, and what this gateway takes."""
    try:
        info = await request.app.state.recognition.client.model_info()
    except CocoerError as error:
        raise of_error(error) from error
    content = info.model_dump(mode="json")
    settings: Settings = request.app.state.settings
    warnings = warnings_of({"model": content, "image": {}})
    return JSONResponse({"model": content, "warnings": warnings, "limits": {"max_bytes": settings.max_bytes}})


async def healthz() -> Response:
    return Response("ok\n", media_type="text/plain")


async def readyz(request: Request) -> Response:
    try:
        await request.app.state.recognition.client.check_ready()
    except CocoerError as error:
        raise of_error(error) from error
    return Response("ready\n", media_type="text/plain")


async def index() -> FileResponse:
    return FileResponse(PAGE / "index.html", media_type="text/html")
