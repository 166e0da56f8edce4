"""A body of ``multipart/form-data`` (RFC 7578): a file ``image`` and short fields."""

from __future__ import annotations

import io
import logging

from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from cocoer_client.web.problems import Problem

IMAGE = "image"
MAX_FIELDS, MAX_FIELD_BYTES = 16, 256 << 10
"""Of a form, beside the image; 512 persons' boxes with all their decimal places take 150 kB."""
FORM_BYTES = 1 << 20
"""Room for all of a form that is not the image."""
MAX_HEADERS, MAX_HEADER_BYTES = 8, 4096
"""Of one part: lines, and bytes of a line."""
CODINGS = (b"", b"7bit", b"8bit", b"binary")
"""Values of Content-Transfer-Encoding under which a part's bytes are what they are."""
CHARSETS = (b"", b"utf-8", b"utf8", b"us-ascii")
# What is wrong with a form is told to whoever sent it, and is no matter for a log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class Form:
    """A form that is fed piece by piece. Nothing is ever kept under the name of a file.

    Args:
        boundary: between its parts, as in the header Content-Type.
        max_bytes: of the image.

    Raises:
        python_multipart.exceptions.FormParserError: a boundary, or in ``feed`` a piece, that is against the grammar.
    """

    def __init__(self, boundary: bytes, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.parts: dict[str, io.BytesIO] = {}
        self._line: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._content, self._room, self._name = io.BytesIO(), 0, ""
        self._is_file = False
        self.filename = ""
        """What the image is called; anything at all."""
        names = [name for name in dir(self) if name.startswith("on_")]
        self._parser = MultipartParser(
            boundary,
            {name: getattr(self, name) for name in names},  # type: ignore[arg-type]
            max_header_count=MAX_HEADERS,
            max_header_size=MAX_HEADER_BYTES,
        )

    def feed(self, piece: bytes) -> None:
        """The next bytes.

        Raises:
            Problem: a part that is too large, one too many, or like none that is read.
        """
        self._parser.write(piece)

    def finished(self) -> tuple[bytes, dict[str, str]]:
        """Image and fields.

        Raises:
            Problem: the form has no end, or no image, or text that is not UTF-8.
        """
        if self._parser.state != MultipartState.END:
            raise Problem("body", "the form has no end: the boundary that closes it is not there")
        content = self.parts.pop(IMAGE, None)
        if content is None:
            there = ", ".join(repr(name[:60]) for name in self.parts) or "nothing"
            raise Problem("body", f"the form has no file 'image', but {there}; with curl: -F image=@photo.jpg")
        image = content.getvalue()  # of BytesIO, which copies nothing
        if not image:
            raise Problem("empty", "the form's file 'image' is empty")
        if not self._is_file and len(image) < 1024 and image.isascii() and b"\0" not in image:
            raise Problem("body", "the form's 'image' is text, not a file; with curl, mind the @: -F image=@photo.jpg")
        return image, {name: _text(name, value.getvalue()) for name, value in self.parts.items()}

    def on_part_begin(self) -> None:
        """Callback of the parser, as the next ones."""
        self._headers = {}

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._line[0].extend(data[start:end])

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._line[1].extend(data[start:end])

    def on_header_end(self) -> None:
        name, value = (bytes(side) for side in self._line)
        if self._headers.setdefault(name.lower(), value) is not value:
            raise Problem("body", f"a part of the form has the header {name[:60].decode('latin-1')!r} twice")
        self._line = (bytearray(), bytearray())

    def on_headers_finished(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition"))
        if disposition != b"form-data" or not options.get(b"name"):
            raise Problem("body", 'a part of the form has no name (Content-Disposition: form-data; name="...")')
        self._name = _text("a part's name", options[b"name"])
        if self._name in self.parts:
            raise Problem("body", f"the form has {self._name[:60]!r} twice")
        if len(self.parts) > MAX_FIELDS:
            raise Problem("body", f"the form has more than {MAX_FIELDS} fields beside the image")
        self._require_plain(self._name)
        self._content = self.parts.setdefault(self._name, io.BytesIO())
        self._room = MAX_FIELD_BYTES
        if self._name == IMAGE:
            self._room, self._is_file = self.max_bytes, b"filename" in options
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace")

    def _require_plain(self, name: str) -> None:
        """Raise unless the part's bytes are the content, and text is UTF-8."""
        coding = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
        if coding not in CODINGS:
            told = coding[:60].decode("latin-1")
            raise Problem("media-type", f"{name[:60]!r} is encoded ({told!r}); forms carry files as they are")
        kind, options = parse_options_header(self._headers.get(b"content-type"))
        if kind.startswith(b"multipart/"):
            raise Problem("body", f"{name[:60]!r} is a form within the form; send each file and field as a part")
        charset = options.get(b"charset", b"").lower()
        if name != IMAGE and charset not in CHARSETS:
            told = charset[:60].decode("latin-1")
            raise Problem("body", f"{name[:60]!r} has the charset {told!r}; fields are UTF-8")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._room -= end - start
        if self._room < 0:
            if self._name == IMAGE:
                raise Problem("bytes", f"the image has more than {self.max_bytes} bytes, the most that is taken")
            raise Problem(
                "body",
                f"the form's field {self._name[:60]!r} has more than {MAX_FIELD_BYTES} bytes; is it the image? Its "
                f"name in the form is 'image'",
            )
        self._content.write(memoryview(data)[start:end])


def _text(name: str, value: bytes) -> str:
    """What UTF-8 says."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise Problem("body", f"{name[:60]!r} is not UTF-8") from None
