"""Bodies of requests to the gateway: what is read of them, and what each malformed one is told. No server."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request

from cocoer_client.web.form import FORM_BYTES, MAX_FIELD_BYTES, MAX_FIELDS
from cocoer_client.web.problems import Problem
from cocoer_client.web.upload import Upload, read_upload

MAX_BYTES = 100_000
IMAGE = b"\xff\xd8\xff\xe0\0\x10JFIF\0\r\n--frontier\r\n--\r\n\0" + bytes(range(256))
"""With what could be taken for the end of a part, had the boundary another name."""
FORM = "multipart/form-data; boundary=b"
FILE = b'Content-Disposition: form-data; name="image"; filename="photo.jpg"\r\nContent-Type: image/jpeg\r\n'


def read(
    pieces: bytes | Sequence[bytes | None], content_type: str | None = FORM, account=lambda _: None, **headers
) -> Upload:
    """Upload of a request; ``None`` among the pieces: the caller hangs up."""
    coming = [pieces] if isinstance(pieces, bytes) else list(pieces)
    messages = [
        {"type": "http.disconnect"}
        if piece is None
        else {"type": "http.request", "body": piece, "more_body": at < len(coming) - 1}
        for at, piece in enumerate(coming)
    ]

    async def receive() -> dict:
        return messages.pop(0)

    given = {} if content_type is None else {"content-type": content_type}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)
    return asyncio.run(read_upload(request, MAX_BYTES, account))


def part(name: str, value: bytes, more: bytes = b"") -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%s"\r\n%s\r\n%s\r\n' % (name.encode(), more, value)


def file(value: bytes = IMAGE, headers: bytes = FILE) -> bytes:
    return b"--b\r\n" + headers + b"\r\n" + value + b"\r\n"


END = b"--b--\r\n"


def refused(*arguments: Any, **headers: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        read(*arguments, **headers)
    return caught.value


@pytest.mark.parametrize(
    "content_type",
    [
        None, "", "image/jpeg", "IMAGE/JPEG", "image/png", "application/octet-stream", "application/json",
        "application/x-www-form-urlencoded", "text/plain; charset=utf-8", "nonsense", ";;;=",
    ],
)  # fmt: skip
def test_a_body_that_is_the_image(content_type):
    assert read(IMAGE, content_type) == Upload(IMAGE, {})
    assert read([IMAGE[:1], b"", IMAGE[1:2], IMAGE[2:]], content_type).image == IMAGE


def test_a_form():
    body = b"\r\n" + file() + part("min_score", b"0.5") + part("persons", "é".encode()) + END
    assert read(body) == Upload(IMAGE, {"min_score": "0.5", "persons": "é"}, "photo.jpg")


@given(st.lists(st.integers(0, 700), max_size=8))
@example(list(range(700)))
def test_a_form_may_come_in_any_pieces(cuts):
    body = file() + part("min_score", b"0.5") + END + b"epilogue"
    at = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    assert read([body[start:end] for start, end in zip(at, at[1:])]) == Upload(IMAGE, {"min_score": "0.5"}, "photo.jpg")


@given(st.binary(max_size=400), st.booleans())
@example(b"--b", True)
@example(b"--b\r\n" * 30, True)
@example(b"\r\n\r\n--b--", False)
def test_nothing_in_a_form_is_an_error_of_ours(noise, within):
    for body in (noise, b"--b\r\n" + noise, file()[:-2] + noise + END, part("image", b"", noise) + END):
        with contextlib.suppress(Problem):
            read([body[: len(body) // 2], body[len(body) // 2 :]] if within else body)


MALFORMED = {
    "nothing": (b"", "has no end"),
    "no final boundary": (file(), "has no end"),
    "half a final boundary": (file() + b"--b-", "has no end"),
    "headers without end": (b"--b\r\n" + FILE, "has no end"),
    "a header line of 5 kB": (file(headers=FILE + b"X: " + b"a" * 5000 + b"\r\n"), "header size"),
    "a header name of 5 kB": (b"--b\r\n" + b"a" * 5000, "header size"),
    "9 headers": (file(headers=FILE + b"X: y\r\nZ: y\r\nA: y\r\nB: y\r\nC: y\r\nD: y\r\nE: y\r\n"), "header count"),
    "a header twice": (file(headers=FILE + FILE) + END, "'Content-Disposition' twice"),
    "no headers": (file(headers=b"") + END, "no name"),
    "no name": (file(headers=b"Content-Disposition: form-data\r\n") + END, "no name"),
    "an empty name": (part("", b"x") + file() + END, "no name"),
    "a name by RFC 2231 only": (file(headers=b"Content-Disposition: form-data; name*=utf-8''x\r\n") + END, "no name"),
    "another disposition": (file(headers=b'Content-Disposition: attachment; name="image"\r\n') + END, "no name"),
    "a name that is not UTF-8": (file(headers=b'Content-Disposition: form-data; name="\xff"\r\n') + END, "not UTF-8"),
    "a field that is not UTF-8": (part("persons", b"\xff\xfe") + file() + END, "'persons' is not UTF-8"),
    "a field in UTF-16": (part("persons", b"", b"Content-Type: text/plain; charset=UTF-16\r\n") + END, "utf-16"),
    "image twice": (file() + file() + END, "'image' twice"),
    "a field twice": (part("style", b"panel") + part("style", b"panel") + file() + END, "'style' twice"),
    "100 parts": (b"".join(part(f"f{i}", b"") for i in range(100)) + file() + END, f"more than {MAX_FIELDS} fields"),
    "a form within": (part("image", b"", b"Content-Type: multipart/mixed; boundary=c\r\n") + END, "form within"),
    "another name": (part("file", IMAGE, b"Content-Type: image/jpeg\r\n") + END, "no file 'image', but 'file'"),
    "only fields": (part("style", b"panel") + END, "no file 'image', but 'style'"),
    "no parts": (END, "no file 'image', but nothing"),
    "text for a file": (part("image", b"photo.jpg") + END, "mind the @"),
    "a long field": (part("persons", b"1" * (MAX_FIELD_BYTES + 1)) + file() + END, "'persons' has more than"),
    "bare line feeds": ((file() + END).replace(b"\r\n", b"\n"), "can't be read"),
    "no colon": (b"--b\r\nContent-Disposition\r\n\r\n\r\n" + END, "can't be read"),
    "another boundary": ((file() + END).replace(b"--b", b"--c"), "can't be read"),
    "what is no form": (IMAGE, "can't be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_forms(name):
    body, message = MALFORMED[name]
    problem = refused(body)
    assert (problem.status, problem.reason) == (400, "body"), problem
    assert message in problem.detail
    assert refused([body[i : i + 1] for i in range(min(len(body), 3000))] + [body[3000:]]).status == 400


@pytest.mark.parametrize(
    "filename",
    [
        b'"../../etc/passwd"', b'"C:\\temp\\x.jpg"', b'"a\0b.jpg"', b'"a%0d%0aSet-Cookie: x"',
        b'"' + b"a" * 3000 + b'"',
        b'"x"; filename*=utf-8\'\'%2e%2e%2fx', b'"a\xff\xfe"', b'"', b"", b'"\\"', b"a;b", '"ü.jpg"'.encode(),
    ],
)  # fmt: skip
def test_the_name_of_a_file_does_not_matter(filename):
    headers = b'Content-Disposition: form-data; name="image"; filename=' + filename + b"\r\n"
    assert read(file(headers=headers) + END).image == IMAGE


@pytest.mark.parametrize("coding", ["base64", "quoted-printable", "Base64 ", "x-uuencode"])
def test_encoded_parts_are_refused_by_name(coding):
    problem = refused(file(headers=FILE + f"Content-Transfer-Encoding: {coding}\r\n".encode()) + END)
    assert (problem.status, problem.reason) == (415, "media-type")
    assert repr(coding.strip().lower()) in problem.detail
    assert read(file(headers=FILE + b"Content-Transfer-Encoding: binary\r\n") + END).image == IMAGE


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip", "identity, gzip", "x" * 1000])
def test_compressed_bodies_are_refused_by_name(coding):
    problem = refused([], content_encoding=coding)
    assert (problem.status, problem.reason) == (415, "media-type")
    assert coding[:60] in problem.detail
    assert read(IMAGE, None, content_encoding="identity").image == IMAGE


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""']
)
def test_a_form_without_boundary(content_type):
    problem = refused([], content_type)
    assert (problem.status, problem.reason) == (400, "body")
    assert "boundary" in problem.detail
    assert refused(file() + END, f"multipart/form-data; boundary={'b' * 300}").status == 400


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"image": "aGVsbG8="}'),
        ("application/x-www-form-urlencoded", b"image=photo.jpg"),
        ("application/x-www-form-urlencoded", b"x"),
        ("multipart/mixed; boundary=b", b"--b\r\n\r\n--b--"),
        ("text/html", b"<html>"),
        ("application/pdf", b"%PDF-1.7 ......."),
    ],
)
def test_another_content_type_is_told_how_to_do_it(content_type, body):
    problem = refused([body, b"x" * MAX_BYTES * 2], content_type)
    if len(body) >= 12:  # else it takes the next piece to know
        assert (problem.status, problem.reason) == (415, "media-type")
        assert "curl -F image=@photo.jpg" in problem.detail
    assert refused(body, content_type).reason == "media-type"


@pytest.mark.parametrize("start", [b"\xff\xd8\xff\xe0\x10JFIF", b"\x89PNG\x1aIHDR"])
def test_a_file_that_curl_has_taken_for_text(start):
    """``curl -d @photo.jpg`` drops line ends and NULs."""
    problem = refused(start + bytes(range(14, 256)) * 9, "application/x-www-form-urlencoded")
    assert problem.reason == "media-type"
    assert "curl -d drops" in problem.detail
    assert "--data-binary" in problem.detail


def test_too_large_is_known_before_a_byte_is_read():
    limit = MAX_BYTES + FORM_BYTES
    for content_type, length in ((None, MAX_BYTES + 1), (FORM, limit + 1), (FORM, 10**30)):
        problem = refused([], content_type, content_length=str(length))  # to receive from [] would be an IndexError
        assert (problem.status, problem.reason) == (413, "bytes")
        assert str(MAX_BYTES) in problem.detail
    assert len(read(bytes(MAX_BYTES), None, content_length=str(MAX_BYTES)).image) == MAX_BYTES


@pytest.mark.parametrize(
    "pieces",
    [
        [b"--b\r\n" + FILE + b"\r\n", *[bytes(10_000)] * 11],
        [b"--b\r\n" + FILE + b"\r\n" + IMAGE + b"\r\n--b--", *[b"epilogue" * 10_000] * 100],
    ],
)
def test_a_form_that_goes_on(pieces):
    """Its length was not told, or was a lie; what comes after too many bytes is not received."""
    problem = refused([*pieces, None])
    assert (problem.status, problem.reason) == (413, "bytes")
    assert refused([*[bytes(10_000)] * 11, None], None).reason == "bytes"


def test_empty():
    for arguments in ((b"", None), (b"", "image/jpeg"), ([b"", b""], "text/plain"), (file(b"") + END,)):
        assert refused(*arguments).reason == "empty"


@pytest.mark.parametrize("content_type", [None, FORM])
def test_a_caller_who_hangs_up(content_type):
    assert refused([file()[:40], None], content_type).reason == "gone"


def test_every_byte_is_accounted_for_before_it_is_kept():
    arrived = []
    read([file(), END], account=arrived.append)
    assert [more for more in arrived if more] == [len(file()), len(END)]

    def full(more: int) -> None:
        raise Problem("busy", "full")

    assert refused(IMAGE, None, full).reason == "busy"


def test_several_content_types():
    raw = [(b"content-type", b"image/png"), (b"content-type", FORM.encode())]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": raw})
    with pytest.raises(Problem, match="several headers Content-Type"):
        asyncio.run(read_upload(request, MAX_BYTES))
