"""Several servers as one, each given as much as it takes.

A server says that it has enough by refusing (its queue is full). Hence how many requests it gets at once is found as
TCP finds its rate: one more after each round of answers, half as many after a refusal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cocoer_client.client import CocoerClient
from cocoer_client.errors import CocoerError, RequestTimeout, ServerBusy, ServerError, ServerUnavailable

REST = 2.0
"""Seconds that a server which is gone is left alone."""
TRIES = 3
"""Of an image that a server failed at, or did not answer in time."""
SETTLE = 0.5
"""Seconds after a cut in which further refusals, of requests sent before it, cut no more."""


class NoServer(CocoerError):
    """No server has answered for longer than one was willing to wait."""


@dataclass
class Server:
    """One server, and what it takes."""

    url: str
    client: Any
    limit: float
    in_flight: int = 0
    resting_until: float = 0.0
    cut_at: float = -SETTLE

    def free(self, now: float) -> float:
        """Requests that it would take now."""
        return 0.0 if now < self.resting_until else int(self.limit) - self.in_flight

    def answered(self, maximum: int) -> None:
        self.limit = min(float(maximum), self.limit + 1 / self.limit)

    def refused(self, now: float) -> None:
        if now - self.cut_at >= SETTLE:
            self.limit, self.cut_at = max(1.0, self.limit / 2), now

    def gone(self, now: float) -> None:
        self.limit, self.resting_until = 1.0, now + REST


@dataclass
class PoolStatistics:
    """What happened beside answers."""

    refused: int = 0
    unreachable: int = 0
    tried_again: int = 0


@dataclass
class ServerPool:
    """Asks whichever server has room; threads share it.

    Args:
        urls: host:port of each server's gRPC endpoint.
        maximum: requests on their way to one server.
        timeout: seconds for an answer.
        patience: seconds to go on without an answer from any server.
        connect: makes the client of a URL.
    """

    urls: Sequence[str]
    maximum: int
    timeout: float = 60.0
    patience: float = 600.0
    connect: Callable[..., Any] = CocoerClient
    statistics: PoolStatistics = field(default_factory=PoolStatistics)

    def __post_init__(self) -> None:
        start = min(2.0, self.maximum)
        # Asking again is this pool's business: elsewhere, perhaps.
        self.servers = [Server(url, self.connect(url, self.timeout, retries=0), start) for url in self.urls]
        self.changed = threading.Condition()
        self.failing_since: float | None = None
        """When the first of the failures was that no answer has come after."""
        self.last_error: CocoerError | None = None

    def infer_raw(self, image: bytes, **options: Any) -> dict[str, Any]:
        """RESULT of an image, from any server.

        Raises:
            InvalidRequest: the image can't be used.
            ServerError, RequestTimeout: servers failed at it several times.
            NoServer: none has answered anything for ``patience`` seconds.
        """
        tries = 0
        while True:
            server = self._take()
            try:
                result: dict[str, Any] = server.client.infer_raw(image, **options)
            except ServerUnavailable as error:
                self._give_back(server, error)
            except (ServerError, RequestTimeout) as error:
                self._give_back(server, error)
                tries += 1
                if tries == TRIES:
                    raise
                self.statistics.tried_again += 1
            except BaseException as error:
                self._give_back(server, error)
                raise
            else:
                self._give_back(server, None)
                return result

    def _take(self) -> Server:
        """A place at the server with most room; waits for one, and gives up when nobody has answered for too long."""
        with self.changed:
            while True:
                now = time.monotonic()
                if self.failing_since is not None and now - self.failing_since > self.patience:
                    raise NoServer(f"no server has answered for {self.patience:g} s; the last said: {self.last_error}")
                best = max(self.servers, key=lambda server: server.free(now))
                if best.free(now) >= 1:
                    best.in_flight += 1
                    return best
                rests = [server.resting_until - now for server in self.servers if server.resting_until > now]
                self.changed.wait(timeout=min(rests, default=None))

    def _give_back(self, server: Server, error: BaseException | None) -> None:
        with self.changed:
            now = time.monotonic()
            server.in_flight -= 1
            if isinstance(error, ServerUnavailable):
                self.failing_since, self.last_error = self.failing_since or now, error
            else:
                self.failing_since = None
            if isinstance(error, ServerBusy):
                self.statistics.refused += 1
                server.refused(now)
                # It has told, so it is there; but the place it refused is not for the next one at once.
                server.resting_until = max(server.resting_until, now + SETTLE / 5)
            elif isinstance(error, ServerUnavailable):
                self.statistics.unreachable += 1
                server.gone(now)
            else:
                server.answered(self.maximum)
            self.changed.notify_all()
