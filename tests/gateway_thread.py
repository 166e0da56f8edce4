"""A gateway in a thread of the tests' own process, for what needs small limits or a look at what is inside."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from cocoer_client.web.admission import Admission
from cocoer_client.web.app import create_app
from cocoer_client.web.log import LogOptions
from cocoer_client.web.protocol import Connections, LimitedProtocol
from cocoer_client.web.serve import Server, Service
from cocoer_client.web.settings import Settings
from tests.quick_uvicorn import look_often
from tests.waiting import PATIENCE, until

look_often()


@dataclass
class InThread:
    """What runs."""

    port: int
    server: Server
    thread: threading.Thread

    @property
    def connections(self) -> Connections:
        protocol = self.server.config.http_protocol_class
        assert issubclass(protocol, LimitedProtocol)
        return protocol.figures

    @property
    def admission(self) -> Admission:
        admission: Admission = self.server.app.state.admission
        return admission

    def end(self) -> None:
        """As SIGTERM does."""
        self.server.handle_exit(signal.SIGTERM, None)


@contextlib.contextmanager
def gateway_in_thread(settings: Settings) -> Iterator[InThread]:
    """One that answers; ended with the block."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(create_app(settings), Service(settings, LogOptions()), first=False, worker=False)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        until(lambda: server.started, pause=0.01)
        running = InThread(listening.getsockname()[1], server, thread)
        try:
            yield running
        finally:
            if thread.is_alive():
                running.end()
            thread.join(PATIENCE)
