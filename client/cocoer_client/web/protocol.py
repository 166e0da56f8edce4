"""HTTP/1.1 as uvicorn speaks it, within limits of time and size for each connection, and of their number."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import uuid
from dataclasses import dataclass
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from cocoer_client.web.problems import MEDIA_TYPE, Problem
from cocoer_client.web.settings import Settings

MAX_HEAD, MAX_FIELDS = 64 << 10, 100
"""Bytes and header fields of a request's head."""
MAX_PIPELINED = 8
"""Requests of a connection that wait for the one before them."""
SPARE = 256
"""Connections beyond the most there may be that are told so; those beyond them are just closed."""
LINGER = 3.0
"""Seconds in which a caller, refused while still sending, can notice; if cut off, they would not see the answer."""


UPGRADE = re.compile(rb"\r\nUpgrade(?=[ \t]*:)", re.IGNORECASE)


def without_upgrade(data: bytes) -> bytes:
    """What begins within a head, with its field ``Upgrade`` under a name that means nothing.

    A server may ignore the field (RFC 9110, section 7.8), and Java's HttpClient sends it with every first request of a
    connection. The parser takes no body behind it.

    >>> without_upgrade(b"POST / HTTP/1.1\\r\\nUpgrade: h2c\\r\\n\\r\\n\\r\\nUpgrade: body")
    b'POST / HTTP/1.1\\r\\nX-grade: h2c\\r\\n\\r\\n\\r\\nUpgrade: body'
    """
    end = data.find(b"\r\n\r\n")
    end = len(data) if end < 0 else end
    if UPGRADE.search(data, 0, end) is None:  # as nearly always, and then nothing is copied
        return data
    return UPGRADE.sub(b"\r\nX-grade", data[:end]) + data[end:]


@dataclass
class Connections:
    """Figures of one gateway's connections, for the metrics."""

    open: int = 0
    refused: int = 0
    """For there were too many."""
    timed_out: int = 0
    """For no head of a request came in time, or nothing was taken of an answer."""
    malformed: int = 0
    """For what they sent is not HTTP, or had too large a head."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection. uvicorn makes instances of the subclasses that ``limited`` makes."""

    settings: ClassVar[Settings]
    figures: ClassVar[Connections]

    _timer: asyncio.TimerHandle | None = None
    _unsent = 0
    """Bytes of answers that were still here when last looked at."""
    _head, _field_count = 0, 0
    """Of the head that is being read."""
    _in_head = True
    _lingering = False
    _problem: Problem | None = None
    _running: RequestResponseCycle | None = None
    """The request that is being answered; ``cycle`` is the one that came last."""

    # A connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.figures.open += 1
        beyond = len(self.connections) - self.settings.max_connections
        if beyond <= 0:
            self._watch(self.settings.header_timeout)
            return
        self.figures.refused += 1
        if beyond > SPARE:
            transport.abort()
        else:
            self._answer(Problem("busy", "there are too many connections; come back"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.figures.open -= 1
        self._unwatch()
        self._end_requests()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingering or self.transport.is_closing():
            return
        if self._in_head:
            self._head += len(data)
            data = without_upgrade(data)
        super().data_received(data)
        if self._in_head and self._head > MAX_HEAD and not self._lingering:
            self._too_large_a_head()
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is not HTTP."""
        self.figures.malformed += 1
        running = self._running
        if running is not None and running.response_started and not running.response_complete:
            self.transport.close()  # words of ours would be taken for a piece of that response
        else:
            self._answer(self._problem or Problem("request", "this is not HTTP as RFC 9112 has it"))

    def _answer(self, problem: Problem) -> None:
        """The last words on a connection."""
        self._end_requests()
        request_id = uuid.uuid4().hex
        body = json.dumps(problem.content(request_id)).encode()
        headers = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(body)),
            "x-request-id": request_id,
            **problem.headers,
            "connection": "close",
        }
        fields = [(name.encode(), value.encode()) for name, value in headers.items()]
        lines = b"".join(b"%s: %s\r\n" % field for field in [*self.server_state.default_headers, *fields])
        self.transport.write(STATUS_LINE[problem.status] + lines + b"\r\n" + body)
        self._linger()

    def _end_requests(self) -> None:
        """What is still worked on, or waits, has nobody to be answered to."""
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    # A request's head.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._field_count = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._field_count += 1
        if self._field_count > MAX_FIELDS:
            self._too_large_a_head()
            raise ValueError(self._problem)  # which ends the parser's work
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD:
            self._too_large_a_head()
            raise ValueError(self._problem)
        if len(self.pipeline) >= MAX_PIPELINED:
            self._problem = Problem("busy", f"more than {MAX_PIPELINED} requests wait for the answer to the first")
            raise ValueError(self._problem)
        upgrade = self.parser.should_upgrade()
        if upgrade and any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            self._problem = Problem("request", "this connection stays with HTTP/1.1: leave the header Upgrade out")
            raise ValueError(self._problem)  # the parser takes no body for one of HTTP behind such a head
        self._in_head, self._head = False, 0
        self._unwatch()
        super().on_headers_complete()
        self.cycle.keep_alive = self.cycle.keep_alive and not upgrade

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True

    def _should_upgrade_to_ws(self) -> bool:
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """None: the request is answered as if no other protocol had been asked for."""

    def _too_large_a_head(self) -> None:
        self._problem = Problem(
            "head",
            f"the URL and the header fields have more than {MAX_HEAD} bytes, or are more than {MAX_FIELDS}; parameters "
            "may be fields of a form instead",
        )

    # An answer.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        cycle.transport = _Closing(self, cycle)  # type: ignore[assignment]

        async def answered(scope: Any, receive: Any, send: Any) -> None:
            async def send_or_end(message: Any) -> None:
                if message["type"] == "http.response.start" and cycle.more_body:
                    cycle.keep_alive = False  # nobody reads the rest of the body
                await send(message)

            await app(scope, receive, send_or_end)

        super()._start_asgi_task(cycle, answered)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # In place of uvicorn's own time for idle connections, which ends with the first byte of the next head.
        self._unset_keepalive_if_required()
        if not self._lingering and self.cycle.response_complete:
            self._watch(self.settings.header_timeout)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._timer is None:
            self._watch(self.settings.header_timeout)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()

    # Its time.

    def _watch(self, seconds: float, unsent: int = 0) -> None:
        self._unwatch()
        self._unsent = unsent
        self._timer = self.loop.call_later(seconds, self._time_over)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_over(self) -> None:
        """No request has come; or an answer waits to be taken, which may go on slowly."""
        left = self._bytes_left()
        if left and left != self._unsent:
            self._watch(self.settings.header_timeout, left)
        elif left or self._lingering:
            self.transport.abort()
        else:
            self.figures.timed_out += not self._lingering
            self.transport.close()

    def _bytes_left(self) -> int:
        """Of answers, that the other side has not got; 0: they are all under way."""
        left: int = self.transport.get_write_buffer_size()
        # The system takes more of them only once a third of its own buffer is free, which can be a megabyte.
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import fcntl
            import termios

            told = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
            left += int.from_bytes(told, sys.byteorder) if left else 0
        return left

    def _linger(self) -> None:
        """Close, for the other side to notice: what it still sends is dropped for a while."""
        if self.transport.is_closing():
            return
        self._lingering = True
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._watch(LINGER)

    def shutdown(self) -> None:
        if not self._lingering:
            super().shutdown()


class _Closing:
    """A connection's transport for one request: closing it waits until a body that is still sent has been noticed."""

    def __init__(self, protocol: LimitedProtocol, cycle: RequestResponseCycle) -> None:
        self._protocol, self._cycle = protocol, cycle
        self.is_closing = protocol.transport.is_closing

    def write(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def close(self) -> None:
        if self._cycle.more_body and self._cycle.response_complete:
            self._protocol._linger()
        else:
            self._protocol.transport.close()


def limited(settings: Settings) -> type[LimitedProtocol]:
    """What uvicorn takes as ``http=``: HTTP within the limits of a gateway, with figures of its own."""
    return type("LimitedProtocol", (LimitedProtocol,), {"settings": settings, "figures": Connections()})


def raise_file_limit() -> int:
    """Let this process have as many connections as its hard limit allows; how many files it may have open, or 0.

    The usual soft limit of 1,024 would be reached before ``max_connections``.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return 0
