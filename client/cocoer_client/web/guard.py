"""Around every request: its id, who asks from where, headers that protect browsers, its line in the log, figures."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cocoer_client.web import origins
from cocoer_client.web.keys import Keys
from cocoer_client.web.log import Line, log
from cocoer_client.web.metrics import Metrics, endpoint_of
from cocoer_client.web.problems import Problem, response_of
from cocoer_client.web.settings import Settings
from cocoer_client.web.timing import Timing

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
EXPLAIN_POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'"
NO_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""Of what is no page."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"permissions-policy",
        b"camera=(self), microphone=(), geolocation=(), display-capture=(), payment=(), usb=(), serial=()",
    ),
)


class Guard:
    """ASGI middleware.

    Args:
        app: what answers.
        settings: the gateway's.
        keys: None: nobody needs one.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys | None, metrics: Metrics) -> None:
        self.app, self.settings, self.keys, self.metrics = app, settings, keys, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(self, scope, receive, send)
        self.metrics.in_flight.inc()
        try:
            await exchange.run()
        finally:
            self.metrics.in_flight.dec()
            exchange.end()


class Exchange:
    """One request and its response."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self.guard, self.scope, self._receive, self._send = guard, scope, receive, send
        self.begun = time.perf_counter()
        self.headers = Headers(scope=scope)
        # For the routes too: there is one way to read a path, or keys could be got around.
        self.path = scope["path"] = within(scope["path"], guard.settings.root_path)
        given = self.headers.get("x-request-id", "")
        self.id = given if SANE_ID.fullmatch(given) else secrets.token_hex(16)
        self.state: dict[str, Any] = scope.setdefault("state", {})
        self.state["request_id"] = self.id
        self.line = Line(self.id, scope["method"], self.path)
        self.origin: str | None = None
        self.started = False

    async def run(self) -> None:
        """Answer."""
        try:
            if (response := self._before()) is None:
                await self.guard.app(self.scope, self.receive, self.send)
                return
        except Problem as problem:
            response = self._refused(problem)
        except asyncio.CancelledError:  # the process ends, by force
            if self.started:
                raise
            response = self._refused(Problem("unavailable", "this gateway has ended before the answer was there"))
        except Exception:
            log.exception("request %s failed", self.id)
            if self.started:  # nothing else can be said; the server closes the connection
                raise
            response = self._refused(Problem("internal", "the gateway failed; its log says why"))
        await response(self.scope, self.receive, self.send)

    def _before(self) -> Response | None:
        """The answer to a request that goes no further; raises ``Problem`` where it may not."""
        settings = self.guard.settings
        origins.require_host(self.headers, self.path, settings.hosts)
        self.origin = origins.allowed_origin(self.headers, self.path, settings.origins)
        if self.origin is not None and origins.is_preflight(self.scope["method"], self.headers):
            return Response(status_code=204, headers=origins.preflight_headers())
        if self.guard.keys is not None and self.path.startswith("/v1/"):
            self.line.caller = self.state["caller"] = self._caller(self.guard.keys)
        return None

    def _caller(self, keys: Keys) -> str:
        key = self._key()
        name = keys.caller(key) if key else None
        if name is None:
            what = "this API key is not known" if key else "an API key is needed"
            raise Problem(
                "key", f"{what}: send Authorization: Bearer KEY, or X-API-Key: KEY", {"WWW-Authenticate": "Bearer"}
            )
        return name

    def _key(self) -> str | None:
        scheme, _, key = self.headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else self.headers.get("x-api-key")

    def _refused(self, problem: Problem) -> Response:
        self.state["reason"] = problem.reason
        return response_of(problem, self.id)

    async def receive(self) -> Message:
        """As the server's; counts."""
        message = await self._receive()
        self.line.bytes_in += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """As the server's, with headers; counts."""
        if message["type"] == "http.response.start":
            self.started, self.line.status = True, message["status"]
            message["headers"] = self._with_headers(list(message.get("headers", ())))
        elif message["type"] == "http.response.body":
            self.line.bytes_out += len(message.get("body", b""))
        await self._send(message)

    def _with_headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """What a response says itself stays."""
        there = {name.lower() for name, _ in headers}
        added = [*HEADERS, (b"content-security-policy", self._policy().encode()), (b"cache-control", self._cache())]
        headers += [header for header in added if header[0] not in there]
        headers.append((b"x-request-id", self.id.encode()))
        if self.guard.settings.origins:
            headers += origins.origin_headers(self.origin)
        return headers

    def _policy(self) -> str:
        if self.path == "/v1/explain" and self.line.status == 200:
            return EXPLAIN_POLICY
        return PAGE_POLICY if endpoint_of(self.path) in ("/", "/page", "/docs") else NO_POLICY

    def _cache(self) -> bytes:
        # Files of the page have an ETag, by which browsers ask again.
        return b"no-cache" if endpoint_of(self.path) in ("/", "/page", "/docs", "/openapi.json") else b"no-store"

    def end(self) -> None:
        """Count and log it."""
        seconds = time.perf_counter() - self.begun
        self.line.ms, self.line.reason = 1000 * seconds, self.state.get("reason", "")
        timing = self.state.get("timing")
        parts = timing.seconds if isinstance(timing, Timing) else {}
        self.guard.metrics.count(self.line, endpoint_of(self.path), seconds, parts)
        self.line.write()


def within(path: str, root: str) -> str:
    """A path below a root; one that is elsewhere stays what it is.

    >>> within("/cocoer/v1/model", "/cocoer"), within("/v1/model", "/cocoer"), within("/cocoer", "/cocoer")
    ('/v1/model', '/v1/model', '/')
    """
    return path[len(root) :] or "/" if path == root or path.startswith(f"{root}/") else path
