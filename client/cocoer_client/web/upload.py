"""The image and the fields of a request's body, read piece by piece and within limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from cocoer_client.web.problems import Problem

MAX_FIELDS, MAX_FIELD_BYTES = 16, 64 << 10
"""Of a form, beside the image; 512 persons' boxes take 50 kB."""
IMAGE = "image"


@dataclass
class Upload:
    """What was sent.

    Args:
        image: the file's bytes.
        fields: of a form, beside the image.
        filename: what a form calls the file.
    """

    image: bytes = b""
    fields: dict[str, str] = field(default_factory=dict)
    filename: str = ""


async def read_upload(request: Request, max_bytes: int) -> Upload:
    """Read a body: ``multipart/form-data`` with a file ``image``, or the image itself.

    Raises:
        Problem: it is too large, is no form, or was cut off.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    try:
        if kind == b"multipart/form-data":
            return await _form(request.stream(), options.get(b"boundary", b""), max_bytes)
        return Upload(await _whole(request.stream(), max_bytes))
    except ClientDisconnect:
        raise Problem("body", "the connection was closed before the body was there") from None


async def _whole(pieces: AsyncIterator[bytes], max_bytes: int) -> bytes:
    content = bytearray()
    async for piece in pieces:
        content += piece
        if len(content) > max_bytes:
            raise Problem("bytes", f"the image has more than {max_bytes} bytes, the most that is taken")
    return bytes(content)


class _Form:
    """Callbacks of the parser."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.parts: dict[str, bytearray] = {}
        self.header_name, self.header_value, self.disposition = b"", b"", b""
        self.content = bytearray()
        self.limit = 0
        self.filename = ""

    def on_part_begin(self) -> None:
        self.disposition = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.header_value += data[start:end]

    def on_header_end(self) -> None:
        if self.header_name.lower() == b"content-disposition":
            self.disposition = self.header_value
        self.header_name = self.header_value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self.disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name == IMAGE:
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace")
        if name in self.parts:
            raise Problem("body", f"the form has {name[:60]!r} twice")
        if len(self.parts) > MAX_FIELDS:
            raise Problem("body", f"the form has more than {MAX_FIELDS} fields")
        self.content = self.parts.setdefault(name, bytearray())
        self.limit = self.max_bytes if name == IMAGE else MAX_FIELD_BYTES

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.content += data[start:end]
        if len(self.content) > self.limit:
            if self.limit == self.max_bytes:
                raise Problem("bytes", f"the image has more than {self.max_bytes} bytes, the most that is taken")
            raise Problem("body", f"a field of the form has more than {MAX_FIELD_BYTES} bytes")


async def _form(pieces: AsyncIterator[bytes], boundary: bytes, max_bytes: int) -> Upload:
    form = _Form(max_bytes)
    names = [name for name in dir(form) if name.startswith("on_")]
    parser = MultipartParser(boundary, {name: getattr(form, name) for name in names})
    async for piece in pieces:
        parser.write(piece)
    parser.finalize()
    if IMAGE not in form.parts:
        raise Problem("body", "the form has no file named 'image'; with curl: -F image=@photo.jpg")
    image = bytes(form.parts.pop(IMAGE))
    fields = {name: content.decode("utf-8", "replace") for name, content in form.parts.items()}
    return Upload(image, fields, form.filename)
