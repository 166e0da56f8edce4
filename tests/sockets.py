"""HTTP by hand, for what no client would send."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

from tests.waiting import PATIENCE


def connect(port: int, buffer: int | None = None) -> socket.socket:
    """A connection to this machine; ``buffer``: bytes that it takes before somebody reads them."""
    connection = socket.socket()
    connection.settimeout(PATIENCE)
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.connect(("127.0.0.1", port))
    return connection


def all_of(connection: socket.socket) -> bytes:
    """Whatever comes until the other side closes, or resets, the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            received += piece
    return received


def exchange(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """All that is answered to these pieces, until the other side closes the connection."""
    with connect(port) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        return all_of(connection)


def posted(body: bytes = b"", *fields: str, path: str = "/v1/recognise", length: int | None = -1) -> bytes:
    """A request; ``length``: what its Content-Length says, -1: the truth, None: nothing."""
    told = [] if length is None else [f"Content-Length: {len(body) if length < 0 else length}"]
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *told, *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def status(answer: bytes) -> int:
    """Of the first response that is not 100; 0: there is none."""
    return next((int(line.split()[1]) for line in _status_lines(answer) if not line.startswith(b"HTTP/1.1 100")), 0)


def statuses(answer: bytes) -> list[int]:
    """Of all responses."""
    return [int(line.split()[1]) for line in _status_lines(answer)]


def _status_lines(answer: bytes) -> Iterator[bytes]:
    # Bodies end without a line's end.
    for piece in answer.split(b"HTTP/1.1 ")[1:]:
        yield b"HTTP/1.1 " + piece.split(b"\r\n", 1)[0]
