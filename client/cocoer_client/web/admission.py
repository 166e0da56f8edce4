"""Who is let in: how many requests are worked on, how many bytes of theirs are in memory, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from starlette.requests import Request

from cocoer_client.web.problems import Problem
from cocoer_client.web.settings import Settings
from cocoer_client.web.upload import Upload, announced, read_upload


class Admission:
    """The door of one gateway; its figures are for the metrics.

    A request counts as worked on only once its body is there: those who send slowly keep nobody out.

    Args:
        settings: the limits.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reading = 0
        """Requests whose body is being read."""
        self.working = 0
        """Requests that are being worked on."""
        self.upload_bytes = 0
        """Of all bodies that are in memory."""
        self.callers: Counter[str] = Counter()
        """Name of an API key -> its requests that are read or worked on."""

    @contextlib.asynccontextmanager
    async def admitted(self, request: Request) -> AsyncIterator[Upload]:
        """A request's upload, once it is there; what is done within counts as work on the request.

        The work ends, by being cancelled, when the caller hangs up or time is over.

        Raises:
            Problem: there is too much to do or in memory, the body is like none that is taken or comes too slowly, time
                is over, or the caller has gone.
        """
        settings = self.settings
        about = announced(request.headers, settings.max_bytes)
        with self._caller(request), self._memory() as kept, _Cut() as cut:
            self._require_room()
            self._require_memory(about.length or 0)
            self.reading += 1
            try:
                with cut.after(settings.body_timeout, _slow(settings.body_timeout)):
                    upload = await read_upload(request, settings.max_bytes, kept)
            finally:
                self.reading -= 1
            self._require_room()
            self.working += 1
            try:
                with cut.after(settings.connection.timeout, _late()), cut.when_gone(request):
                    yield upload
            finally:
                self.working -= 1

    def _require_room(self) -> None:
        if self.working >= self.settings.max_requests:
            raise Problem("busy", f"{self.working} requests are being worked on; ask again")

    def _require_memory(self, more: int) -> None:
        if self.upload_bytes + more > self.settings.max_upload_bytes:
            raise Problem("busy", "too many images are being sent at the moment; ask again")

    @contextlib.contextmanager
    def _caller(self, request: Request) -> Iterator[None]:
        """Count a request for its caller."""
        caller, most = request.scope.get("state", {}).get("caller"), self.settings.max_per_caller
        if caller is None:
            yield
            return
        if most is not None and self.callers[caller] >= most:
            raise Problem("caller", f"this key has {most} requests that are not answered yet, the most there may be")
        self.callers[caller] += 1
        try:
            yield
        finally:
            self.callers[caller] -= 1
            if not self.callers[caller]:
                del self.callers[caller]

    @contextlib.contextmanager
    def _memory(self) -> Iterator[_Kept]:
        """Count what a request keeps in memory."""
        kept = _Kept(self)
        try:
            yield kept
        finally:
            self.upload_bytes -= kept.total


class _Kept:
    """Bytes of one request; called with more of them."""

    def __init__(self, admission: Admission) -> None:
        self.admission, self.total = admission, 0

    def __call__(self, more: int) -> None:
        self.admission._require_memory(more)
        self.admission.upload_bytes += more
        self.total += more


class _Cut:
    """Ends what the current task does in a ``with`` block, by cancelling it; the block then raises the problem."""

    problem: Problem | None = None

    def __enter__(self) -> _Cut:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        return self

    def __exit__(self, *_: object) -> None:
        if self.problem is not None:
            if hasattr(self.task, "uncancel"):  # from Python 3.11 on
                self.task.uncancel()
            raise self.problem from None

    def __call__(self, problem: Problem) -> None:
        if self.problem is None:
            self.problem = problem
            self.task.cancel()

    @contextlib.contextmanager
    def after(self, seconds: float, problem: Problem) -> Iterator[None]:
        """End a block that takes longer."""
        timer = asyncio.get_running_loop().call_later(seconds, self, problem)
        try:
            yield
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def when_gone(self, request: Request) -> Iterator[None]:
        """End a block as soon as the caller hangs up; the body has been read."""

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            self(Problem("gone", "the caller has closed the connection before the answer was there"))

        watching = asyncio.get_running_loop().create_task(watch())
        try:
            yield
        finally:
            watching.cancel()


def _slow(seconds: float) -> Problem:
    return Problem("slow", f"the body was not there within {seconds:g} s")


def _late() -> Problem:
    return Problem("timeout", "there was no answer in time; ask again")
