"""One process that serves, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from types import FrameType

import uvicorn
from fastapi import FastAPI

from cocoer_client.errors import CocoerError
from cocoer_client.web.app import create_app
from cocoer_client.web.log import LogOptions, log, set_up
from cocoer_client.web.protocol import limited, raise_file_limit
from cocoer_client.web.settings import Settings

GRACE = 5.0
"""Seconds beyond all timeouts after which running requests are cut off."""
FIRST_LOOK = 3.0
"""Seconds to wait for Triton before it is said that it is not there."""


@dataclass(frozen=True)
class Service:
    """What a process of the gateway is told.

    Args:
        settings: of the gateway.
        log: how it logs.
        linger: seconds after the signal in which new requests are taken, while ``/readyz`` says no.
    """

    settings: Settings
    log: LogOptions
    linger: float = 0.0

    @property
    def patience(self) -> float:
        """Seconds that the end may take at most."""
        return self.linger + self.settings.body_timeout + self.settings.connection.timeout + GRACE


class Server(uvicorn.Server):
    """Uvicorn's, which first says that it is not ready, and ends with status 0.

    Args:
        app: the gateway.
        service: what it is told.
        first: whether it speaks for all processes.
        worker: it is one of several, whose parent hands signals on.
    """

    def __init__(self, app: FastAPI, service: Service, first: bool, worker: bool) -> None:
        settings = service.settings
        self.protocol = limited(settings)
        config = uvicorn.Config(
            app,
            http=self.protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(settings.body_timeout + settings.connection.timeout + GRACE),
        )
        super().__init__(config)
        self.app, self.service, self.first, self.worker = app, service, first, worker
        self.leaves_at: float | None = None
        self.forced: int | None = None
        """The signal that has ended it at once."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal has it finish what runs; a second one ends it at once."""
        if self.worker and sig == signal.SIGINT:
            return  # Ctrl-C reaches all processes; the parent tells this one what to do
        if self.leaves_at is None:
            self.leaves_at, self.app.state.stopping = time.monotonic() + self.service.linger, True
        else:
            self.forced, self.should_exit, self.force_exit = sig, True, True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then looks whether Triton is there."""
        await super().startup(sockets)
        if self.first:
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        url = self.service.settings.url
        try:
            await asyncio.wait_for(self.app.state.recognition.client.check_ready(), FIRST_LOOK)
        except (CocoerError, asyncio.TimeoutError):
            log.warning("Triton at %s is not ready yet; /readyz says 503 until it is", url)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if self.leaves_at is not None and time.monotonic() >= self.leaves_at:
            self.should_exit = True
        self.app.state.metrics.sample(self.protocol.figures, self.app.state.admission)
        return await super().on_tick(counter)


def serve(service: Service, listening: socket.socket, first: bool = True, worker: bool = False) -> None:
    """Serve until a signal.

    Args:
        service: what to do.
        listening: a bound socket, closed at the end.
        first: see ``Server``.
        worker: see ``Server``.

    Raises:
        InvalidInput: the keys can't be used.
    """
    set_up(service.log)
    raise_file_limit()
    server = Server(create_app(service.settings), service, first, worker)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
    if server.forced is not None:
        # Threads that draw are not waited for.
        log.warning("ended at once by a second signal")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + server.forced)
