"""The image and the fields of a request's body, read piece by piece and within limits."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from cocoer_client.web.form import FORM_BYTES, Form
from cocoer_client.web.problems import Problem

Account = Callable[[int], None]
"""Told how many bytes have arrived; raises ``Problem`` where that is too many."""
FORM, URLENCODED = "multipart/form-data", "application/x-www-form-urlencoded"
OCTETS = ("", "application/octet-stream")
"""Content types that say nothing: the body is the image, whatever it is."""
HOW_TO = (
    "send the image as a form, curl -F image=@photo.jpg, or as the body, curl --data-binary @photo.jpg "
    '-H "Content-Type: image/jpeg"'
)


@dataclass
class Upload:
    """What was sent.

    Args:
        image: the file's bytes.
        fields: of a form, beside the image.
        filename: what a form calls the image; anything at all.
    """

    image: bytes
    fields: dict[str, str]
    filename: str = ""


@dataclass(frozen=True)
class Announced:
    """What a request's head says of its body.

    Args:
        length: bytes; None: not said (chunked).
        kind: media type, in small letters.
        boundary: of a form.
    """

    length: int | None
    kind: str
    boundary: bytes


def announced(headers: Headers, max_bytes: int) -> Announced:
    """What is about to come, before any of it is read.

    Args:
        headers: of the request.
        max_bytes: of an image.

    Raises:
        Problem: more than is taken, compressed, or in a form without a boundary.
    """
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise Problem(
            "media-type", f"the body is encoded ({coding[:60]!r}); send it as it is, without Content-Encoding"
        )
    kinds = headers.getlist("content-type")
    if len(kinds) > 1:
        raise Problem("body", "the request has several headers Content-Type; send one")
    kind, options = parse_options_header(kinds[0] if kinds else "")
    boundary = options.get(b"boundary", b"")
    if kind == FORM.encode() and not boundary:
        raise Problem(
            "body",
            "the form's Content-Type names no boundary; leave this header to whatever makes the form (curl -F, fetch "
            "with FormData, the argument files of requests)",
        )
    told = headers.get("content-length", "")
    length = int(told) if told.isdecimal() else None
    if length is not None and length > max_bytes + (FORM_BYTES if kind == FORM.encode() else 0):
        raise _too_large(max_bytes)
    return Announced(length, kind.decode("latin-1"), boundary)


async def read_upload(request: Request, max_bytes: int, account: Account = lambda _: None) -> Upload:
    """Read a body: ``multipart/form-data`` with a file ``image``, or the image itself.

    Args:
        request: whose body nobody has read.
        max_bytes: of an image.
        account: told of every piece's bytes before it is kept.

    Raises:
        Problem: it is too large, is no form, or was cut off.
    """
    about = announced(request.headers, max_bytes)
    with _translated():
        if about.kind == FORM:
            form = Form(about.boundary, max_bytes)
            async for piece in _accounted(request, max_bytes + FORM_BYTES, max_bytes, account):
                form.feed(piece)
            return Upload(*form.finished(), form.filename)
        return Upload(await _raw(_accounted(request, max_bytes, max_bytes, account), about.kind), {})


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ClientDisconnect:
        raise Problem("gone", "the connection was closed before the body was there") from None
    except FormParserError as error:
        # The parser's own words speak of offsets and of single characters; of use to whoever wrote the form by hand.
        raise Problem("body", f"the form can't be read: {error}"[:300]) from None


async def _accounted(request: Request, limit: int, max_bytes: int, account: Account) -> AsyncIterator[bytes]:
    """A body's pieces, up to ``limit`` bytes of them."""
    total = 0
    async for piece in request.stream():
        total += len(piece)
        if total > limit:
            raise _too_large(max_bytes)
        account(len(piece))
        yield piece


async def _raw(pieces: AsyncIterator[bytes], kind: str) -> bytes:
    """A body that is the image."""
    content = io.BytesIO()  # whose getvalue() copies nothing
    known = kind in OCTETS or kind.startswith("image/")
    async for piece in pieces:
        content.write(piece)
        if not known and content.tell() >= 12:
            _require_image(content.getvalue()[:12], kind)
            known = True
    if not content.tell():
        raise Problem("empty", f"the body is empty; {HOW_TO}")
    image = content.getvalue()
    if not known:
        _require_image(image[:12], kind)
    if kind == URLENCODED and not any(byte in image for byte in (b"\0", b"\r", b"\n")):
        raise Problem("media-type", f"curl -d drops bytes of a file, which damages images; {HOW_TO}")
    return image


def _require_image(start: bytes, kind: str) -> None:
    """Raise unless a body begins like an image, though its type says that it is something else.

    ``curl --data-binary`` says ``application/x-www-form-urlencoded`` unless told otherwise.
    """
    if not looks_like_image(start):
        raise Problem("media-type", f"the body is said to be {kind[:60]!r}, and is no image; {HOW_TO}")


def looks_like_image(start: bytes) -> bool:
    """Whether a file that begins like this may be an image of a format that is read.

    >>> looks_like_image(b"\\x89PNG\\r\\n"), looks_like_image(b"image=%FF%D8"), looks_like_image(b"BMI=20")
    (True, False, False)
    """
    # A BMP's reserved bytes are zero; curl -d would have dropped them.
    bitmap = start[:2] == b"BM" and (start[6:10] == bytes(4) or len(start) < 10 and b"\0" in start)
    return start.startswith((b"\xff\xd8\xff", b"\x89PNG", b"RIFF")) or bitmap


def _too_large(max_bytes: int) -> Problem:
    return Problem("bytes", f"the image has more than {max_bytes} bytes, the most that is taken")
