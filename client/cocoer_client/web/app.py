"""The gateway as an ASGI application: puts together what the other modules have."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from cocoer_client.aio import AsyncCocoerClient
from cocoer_client.web import about, docs, routes
from cocoer_client.web.admission import Admission
from cocoer_client.web.guard import Guard
from cocoer_client.web.keys import Keys
from cocoer_client.web.memory import keep_freed
from cocoer_client.web.metrics import Metrics, metrics
from cocoer_client.web.problems import Problem, response_of
from cocoer_client.web.recognition import Recognition
from cocoer_client.web.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """The gateway, for uvicorn or any other server of ASGI."""
    app = FastAPI(
        title="CocoER",
        lifespan=_lifespan,
        openapi_url=None,
        redirect_slashes=False,  # to what a caller calls this host
    )
    app.state.settings = settings
    app.state.admission = Admission(settings)
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http)
    app.state.metrics, app.state.stopping = Metrics(), False
    keys = Keys(settings.keys) if settings.keys else None
    app.add_middleware(Guard, settings=settings, keys=keys, metrics=app.state.metrics)
    app.include_router(routes.router)
    app.add_route("/metrics", metrics, include_in_schema=False)
    app.include_router(docs.router)
    app.mount("/page", StaticFiles(directory=routes.PAGE))
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    keep_freed()
    threads = ThreadPoolExecutor(settings.draw_threads, "draw")
    client = AsyncCocoerClient(settings.url, retries=settings.retries, **settings.connection.arguments())
    async with client:
        app.state.recognition = Recognition(client, threads)
        app.state.about = about.Reader(client, settings)
        yield
    threads.shutdown(cancel_futures=True)


async def _answer_problem(request: Request, problem: Any) -> JSONResponse:
    request.state.reason = problem.reason
    return response_of(problem, getattr(request.state, "request_id", ""))


async def _answer_http(request: Request, error: Any) -> JSONResponse:
    """What the framework refuses on its own: a path that there is not, a method that is not allowed."""
    path = request.url.path[:100]
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        problem = Problem("method", f"{path} takes {allowed}, not {request.method[:20]}", error.headers)
    elif error.status_code == 404:
        problem = Problem("not-found", f"there is no {path}; /docs lists what there is")
    else:
        problem = Problem("request", str(error.detail))
    return await _answer_problem(request, problem)
