"""A balancer that forgets connections: it stops forwarding what comes over them, and does not close them."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from types import TracebackType


class ForgetfulProxy:
    """Forwards TCP connections to a port of this machine, until it is told to forget those that there are.

    Args:
        port: where to.
    """

    def __init__(self, port: int) -> None:
        self.target = ("127.0.0.1", port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.accepted = 0
        """Connections so far."""
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._remembered = 0
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> ForgetfulProxy:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for pair in self._pairs:
            for one in pair:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def forget(self) -> None:
        """Forward nothing any more over the connections that there are; later ones are as good as new."""
        self._remembered = self.accepted

    @property
    def open(self) -> int:
        """Connections that no side has closed."""
        return sum(thread.is_alive() for thread in self._threads[1:])

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                pair = near, socket.create_connection(self.target)
                number, self.accepted = self.accepted, self.accepted + 1
                self._pairs.append(pair)
                self._start(self._forward, number, *pair)

    def _forward(self, number: int, near: socket.socket, far: socket.socket) -> None:
        with near, far, selectors.DefaultSelector() as ready, contextlib.suppress(OSError):
            ready.register(near, selectors.EVENT_READ, far)
            ready.register(far, selectors.EVENT_READ, near)
            while True:
                for key, _ in ready.select():
                    data = key.fileobj.recv(1 << 16)
                    if not data:
                        return
                    if number >= self._remembered:
                        key.data.sendall(data)
