"""Which pages in browsers may ask: those of the gateway itself, and those it is told of."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers

from cocoer_client.web.problems import Problem

EXPOSED = "X-Request-Id, Retry-After, Server-Timing"
ASKED = "Authorization, Content-Type, X-API-Key, X-Request-Id"
KEPT = 600
"""Seconds for which browsers may remember the answer to a preflight."""
OPEN = ("/healthz", "/readyz", "/metrics")
"""Answered to any host: probes ask by address."""


def require_host(headers: Headers, path: str, hosts: Sequence[str]) -> None:
    """Refuse other names than the gateway's own, under which pages elsewhere could read from it (DNS rebinding).

    Raises:
        Problem: it is another.
    """
    if not hosts or path in OPEN:
        return
    if host_name(headers.get("host", "")) not in hosts:
        raise Problem("host", f"this gateway answers to {', '.join(hosts)}; --allow-host adds names")


def host_name(host: str) -> str:
    """Without the port.

    >>> host_name("Example.com:8080"), host_name("[::1]:8080"), host_name("[::1]")
    ('example.com', '[::1]', '[::1]')
    """
    name, colon, port = host.lower().rpartition(":")
    return name if colon and (port.isdigit() or not port) else host.lower()


def allowed_origin(headers: Headers, path: str, origins: Sequence[str]) -> str | None:
    """The page's origin where it is another than the gateway's and may ask; None: there is nothing to say about it.

    Raises:
        Problem: a page elsewhere wants to use the API.
    """
    origin = headers.get("origin")
    if origin is not None:
        if origin.lower() in origins:
            return origin
        # Its scheme does not count: HTTPS ends before this gateway.
        foreign = origin.lower().partition("://")[2] != headers.get("host", "").lower()
    else:
        foreign = headers.get("sec-fetch-site") == "cross-site"
    if foreign and path.startswith("/v1/"):
        raise Problem("origin", "pages of other origins may not ask here; --allow-origin adds those that may")
    return None


def is_preflight(method: str, headers: Headers) -> bool:
    """Whether a browser only asks if it may ask."""
    return method == "OPTIONS" and "access-control-request-method" in headers


def preflight_headers() -> dict[str, str]:
    """Of the answer to a page that may ask, beside those of ``origin_headers``."""
    return {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": ASKED,
        "Access-Control-Max-Age": str(KEPT),
    }


def origin_headers(origin: str | None) -> list[tuple[bytes, bytes]]:
    """Of every response of a gateway that lets other pages ask."""
    headers = [(b"vary", b"Origin")]
    if origin is not None:
        headers += [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", EXPOSED.encode()),
        ]
    return headers
