"""Letting a server finish what it has accepted, before it stops.

Asked to stop, Triton 24.10 takes the "not ready" state at once, and then refuses the calls that a Python model makes
to others: what ``cocoer`` has accepted would fail. But before that it closes its HTTP endpoint to newcomers and waits
for the connections it has. One idle connection, held open, keeps it there: readiness is false for balancers, and
everything accepted runs to its end.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

QUIET, PAUSE = 3, 0.1
"""Times in a row that nothing must be running, and seconds between them."""
MAX_WAIT = 20.0
"""Seconds that a request waits in ``cocoer``'s queue at most: ``default_timeout_microseconds`` in its configuration."""
UNLOADING = 5.0
"""Seconds that Triton has for unloading its models, once nothing is running."""
EXIT_TIMEOUT = 60
"""Seconds for all of stopping (``--exit-timeout-secs``; Triton's own default is 30): what was accepted last waits for
``MAX_WAIT``, is worked on for as long as a crowd takes on a busy machine, and the models are unloaded."""
MAX_DRAIN = EXIT_TIMEOUT - UNLOADING
"""Seconds for what is running when the server is asked to stop."""
RUNNING = re.compile(
    r"^(?:nv_inference_pending_request_count|cocoer_requests_running)(?:\{[^}]*\})? (\S+)", re.MULTILINE
)


@dataclass(frozen=True)
class Drain:
    """Where a server's endpoints are.

    Args:
        http: host and port; None: it has none, and newcomers can't be kept out.
        metrics: host and port; None: it has none, and nobody knows when it is idle.
        seconds: how long to wait at most.
    """

    http: tuple[str, int] | None
    metrics: tuple[str, int] | None
    seconds: float = MAX_DRAIN

    @contextlib.contextmanager
    def hold(self) -> Iterator[bool]:
        """Keep one HTTP connection open during the block; whether there is one."""
        with contextlib.ExitStack() as stack:
            held = False
            if self.http is not None:
                with contextlib.suppress(OSError):  # not listening yet, or any more
                    connection = stack.enter_context(socket.create_connection(self.http, timeout=2))
                    connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    held = bool(connection.recv(1000))
            yield held

    def wait(
        self, alive: Callable[[], bool], seconds: float | None = None, times: int = QUIET, pause: float = PAUSE
    ) -> bool:
        """Until nothing is queued or running, the server is gone, or the time is over; whether nothing was.

        Args:
            alive: whether to go on waiting.
            seconds: ``self.seconds`` if None.
            times: in a row that nothing must be running.
            pause: seconds between two times.
        """
        deadline = time.monotonic() + (self.seconds if seconds is None else seconds)
        quiet = 0
        while quiet < times and time.monotonic() < deadline and alive():
            count = self.running()
            if count is None:
                return False
            quiet = quiet + 1 if count == 0 else 0
            time.sleep(pause if quiet < times else 0)
        return quiet >= times

    def running(self) -> float | None:
        """Requests queued or running; None where the server does not tell."""
        if self.metrics is None:
            return None
        url = "http://{}:{}/metrics".format(*self.metrics)
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return sum(map(float, RUNNING.findall(answer.read().decode())))
        except (OSError, http.client.HTTPException, ValueError):  # gone, cut off, or no metrics
            return None
