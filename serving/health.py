"""What orchestrators ask of a server: ready and alive, by what it does and not only by what Triton says of itself.

Triton's own ``/v2/health/ready`` says yes while a model hangs, or fails every request. This one says no from the first
probe (``serving.probe``) that is not answered, so that balancers send nothing more while it is being found out; and
while the server is being started anew, or stopped.
"""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator

LOOK = 0.1
"""Seconds between two looks whether it is to end, which are part of a server's stop."""


@contextlib.contextmanager
def told_of(address: tuple[str, int], not_ready: Callable[[], str]) -> Iterator[tuple[str, int]]:
    """Answer ``/ready`` and ``/live`` over HTTP during the block, each with 200 or 503 and a line of text.

    Args:
        address: host and port to listen on; port 0: a free one.
        not_ready: why the server is not ready now; empty if it is.

    Yields:
        the address.

    Raises:
        OSError: it can't be listened on.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10  # seconds; who connects and says nothing is let go

        def do_GET(self) -> None:
            if self.path == "/live":  # answered by the process that starts Triton anew
                self._answer(200, "alive")
            elif self.path == "/ready":
                reason = not_ready()
                self._answer(503 if reason else 200, reason or "ready")
            else:
                self._answer(404, "there are /ready and /live")

        do_HEAD = do_GET

        def _answer(self, status: int, text: str) -> None:
            body = f"{text}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: orchestrators ask every few seconds."""

    with http.server.ThreadingHTTPServer(address, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(LOOK,), name="health", daemon=True)
        thread.start()
        try:
            host, port = server.server_address[:2]
            yield str(host), int(port)
        finally:
            server.shutdown()
            thread.join()
