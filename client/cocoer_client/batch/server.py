"""What one server takes: how many requests at once, and whether it is asked at all.

How many it gets at once is found as TCP finds its rate: one more after each round of answers, half as many after a
refusal, a time-out or a failure. A server that is gone, or fails several times in a row, is not asked for a while (its
circuit is open); then one request tries whether it is back. Pure: the time is an argument, and nothing is locked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

FAILURES = 3
"""In a row, after which a server is not asked for a while."""
REST, MAX_REST = 2.0, 10.0
"""Seconds that it is not asked; doubled each time that it fails again."""
PAUSE, MAX_PAUSE = 0.1, 2.0
"""The same after a refusal, which is a sign of life."""


@dataclass
class Server:
    """One server.

    Args:
        url: its address.
        client: asks it.
        limit: requests at once.
    """

    url: str
    client: Any
    limit: float
    in_flight: int = 0
    resting_until: float = -math.inf
    rest: float = 0.0
    """Seconds of the last rest; 0: the circuit is closed."""
    probing: bool = False
    """A request is on its way that tries whether it is back."""
    pause: float = 0.0
    failures: int = 0
    """In a row."""
    cut_at: float = -math.inf
    """When the limit was cut: what was sent before says nothing about the limit since."""
    opened_at: float = -math.inf

    @property
    def closed(self) -> bool:
        """Whether it is asked as usual."""
        return self.rest == 0

    def room(self, now: float) -> int:
        """Requests that it would take now."""
        if now < self.resting_until:
            return 0
        if not self.closed:
            return 0 if self.probing else 1
        return int(self.limit) - self.in_flight

    def take(self, now: float) -> Place:
        """A request's place; there must be room."""
        self.in_flight += 1
        self.probing = not self.closed
        return Place(self, now, self.probing)

    def _open(self, now: float) -> None:
        self.limit, self.cut_at, self.opened_at, self.failures = 1.0, now, now, 0
        self.rest = min(max(REST, 2 * self.rest), MAX_REST)
        self.resting_until = now + self.rest

    def _cut(self, place: Place, now: float) -> bool:
        """Halve the limit; once for all that was sent before."""
        if place.sent <= self.cut_at:
            return False
        self.limit, self.cut_at = max(1.0, self.limit / 2), now
        return True


@dataclass
class Place:
    """A request on its way to a server; one of the four says how it ended, once.

    Args:
        server: who is asked.
        sent: when.
        probe: it tries whether the server is back.
    """

    server: Server
    sent: float
    probe: bool

    def answered(self, now: float, maximum: int) -> None:
        """The server has answered; ``maximum`` is the most it ever gets at once."""
        server = self._left()
        server.failures, server.pause = 0, 0.0
        if self.probe:
            server.rest = 0.0
        elif not server.closed:
            server.resting_until = now  # a late answer: look at once whether it is back
        else:
            server.limit = min(float(maximum), server.limit + 1 / server.limit)

    def refused(self, now: float) -> None:
        """The server has enough for now."""
        server = self._left()
        if self.probe:
            server.rest = 0.0
        if server._cut(self, now):
            server.pause = min(max(PAUSE, 2 * server.pause), MAX_PAUSE)
        # What it refused is not for the next one at once.
        server.resting_until = max(server.resting_until, now + server.pause)

    def failed(self, now: float) -> None:
        """The server has failed, or not answered in time: it may be this image, or too much at once, or the server."""
        server = self._left()
        if self.sent <= server.opened_at:
            return
        server._cut(self, now)
        server.failures += 1
        if self.probe or server.failures >= FAILURES:
            server._open(now)

    def lost(self, now: float) -> None:
        """The server is gone."""
        server = self._left()
        if self.sent > server.opened_at:
            server._open(now)

    def _left(self) -> Server:
        self.server.in_flight -= 1
        if self.probe:
            self.server.probing = False
        return self.server
