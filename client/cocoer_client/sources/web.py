"""Downloads, of a limited size and in a limited time."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from urllib.parse import quote, urlsplit, urlunsplit

from cocoer_client.errors import InvalidInput, SourceUnavailable
from cocoer_client.ordered import is_ending

MAX_BYTES = 64 << 20
"""Of a download; the server has its own, lower limit."""
CHUNK = 1 << 16
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses after which the same download may work later."""


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the web alone."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise InvalidInput(f"download failed: it leads to {newurl[:100]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, timeout: float) -> bytes:
    """What is at a URL.

    Args:
        url: ``http`` or ``https``.
        timeout: seconds, for all of it.

    Raises:
        InvalidInput: there is nothing for us, or more than ``MAX_BYTES``; the message has the HTTP status.
        SourceUnavailable: no answer, not in time, or one that may be another later.
    """
    end = time.monotonic() + timeout
    try:
        request = urllib.request.Request(encoded(url), headers={"User-Agent": "cocoer-client"})
        with urllib.request.build_opener(_WebOnly).open(request, timeout=timeout) as response:
            return _read(response, end, timeout)
    except urllib.error.HTTPError as error:
        error.close()
        kind = SourceUnavailable if error.code in PASSING else InvalidInput
        raise kind(f"download failed: HTTP status {error.code} {error.reason}".rstrip()) from error
    except (http.client.InvalidURL, UnicodeError) as error:
        raise InvalidInput(f"download failed: no URL of the web ({error})") from error
    except urllib.error.URLError as error:
        raise SourceUnavailable(f"download failed: {error.reason}") from error
    except TimeoutError as error:
        raise SourceUnavailable(f"download failed: not complete within {timeout:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise SourceUnavailable(f"download failed: {error or type(error).__name__}") from error


def _read(response: http.client.HTTPResponse, end: float, timeout: float) -> bytes:
    announced = response.headers.get("Content-Length", "")
    expected = int(announced) if announced.isdecimal() else None
    parts, size = [], 0
    if (expected or 0) > MAX_BYTES:
        raise InvalidInput(_too_large())
    # read1: what is there, so that a server that sends a byte a second is noticed.
    while part := response.read1(CHUNK):
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise InvalidInput(_too_large())
        if is_ending():
            raise InvalidInput("interrupted")
        if time.monotonic() > end:
            raise SourceUnavailable(f"download failed: not complete within {timeout:g} s")
    if expected is not None and size < expected:
        raise SourceUnavailable(f"download failed: it broke off after {size} of {expected} bytes")
    return b"".join(parts)


def _too_large() -> str:
    return f"download failed: more than {MAX_BYTES >> 20} MiB"


def encoded(url: str) -> str:
    """A URL as people paste it, in ASCII: spaces and other scripts in its path and query are encoded.

    >>> encoded("http://localhost/a b/ü.jpg?x=%20#top")
    'http://localhost/a%20b/%C3%BC.jpg?x=%20'
    """
    parts = urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    path, query = (quote(part, safe="/%:=&?~+!$,;'@()*[]|") for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, host, path, query, ""))
