"""Errors of the gateway as problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from cocoer_client.errors import (
    CocoerError,
    InvalidInput,
    InvalidRequest,
    RequestTimeout,
    ServerBusy,
    ServerUnavailable,
)

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:cocoer:problem:"
"""Before a reason: the problem's type."""
REASONS: Mapping[str, tuple[int, str]] = {
    # The server's (``cocoer_rejected_total``): what is wrong with an image or a parameter.
    "empty": (400, "The image is empty"),
    "bytes": (413, "The image is too large"),
    "format": (415, "Not an image of a format that is read"),
    "pixels": (413, "The image has too many pixels"),
    "scans": (422, "The image has too many scans"),
    "damaged": (422, "The image is damaged"),
    "persons": (422, "A box makes no sense"),
    "parameter": (400, "A parameter makes no sense"),
    "request": (400, "The request makes no sense"),
    # The gateway's own.
    "body": (400, "The body can't be read"),
    "media-type": (415, "A body of this type or encoding is not read"),
    "head": (431, "The URL and the header fields are too long"),
    "accept": (406, "None of these formats is made"),
    "key": (401, "An API key is needed"),
    "origin": (403, "Pages of this origin may not ask"),
    "host": (421, "This host is not answered for"),
    "not-found": (404, "There is nothing at this path"),
    "method": (405, "This method is not allowed here"),
    "gone": (499, "The caller has hung up"),  # for the log and the metrics; nobody is there to read it
    "slow": (408, "The body took too long"),
    "caller": (429, "Too many requests of this key at a time"),
    "busy": (503, "Too much to do at the moment"),
    "unavailable": (503, "The server is not there, or not ready"),
    "timeout": (504, "No answer in time"),
    "internal": (500, "The server failed"),
}
"""Reason -> status, title."""
MAY_PASS = ("caller", "busy", "unavailable", "timeout")
RETRY_AFTER = {"caller": 1, "busy": 1, "unavailable": 5, "timeout": 5}
"""Reason -> seconds after which it makes sense to ask again."""


class Problem(Exception):
    """A request that is not answered.

    Args:
        reason: of ``REASONS``.
        detail: what was wrong with this very request, and what to do.
        headers: of the response.
    """

    def __init__(self, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail
        self.status, self.title = REASONS[reason]
        self.headers = dict(headers or {})
        if reason in RETRY_AFTER:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER[reason]))

    def content(self, request_id: str) -> dict[str, Any]:
        """The body of the response."""
        return {
            "type": TYPE + self.reason,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
            "request_id": request_id,
        }


def response_of(problem: Problem, request_id: str) -> JSONResponse:
    """What a caller gets."""
    return JSONResponse(problem.content(request_id), problem.status, problem.headers, media_type=MEDIA_TYPE)


def of_error(error: CocoerError) -> Problem:
    """The problem that an error of the client is to a caller of the gateway; without addresses of ours."""
    if isinstance(error, InvalidRequest):
        # A newer server may have reasons that this gateway has never heard of.
        reason = error.reason or "request"
        return Problem(reason if reason in REASONS else "request", str(error))
    if isinstance(error, InvalidInput):
        return Problem("request", str(error))
    if isinstance(error, ServerBusy):
        return Problem("busy", "the server behind this gateway is busy or restarting; ask again")
    if isinstance(error, ServerUnavailable):
        return Problem("unavailable", "the server behind this gateway does not answer, or has no ready model")
    if isinstance(error, RequestTimeout):
        return Problem("timeout", "the server behind this gateway did not answer in time; ask again")
    return Problem("internal", "recognition failed on the server; its log says why")
