"""Several servers as one, each given as much as it takes; what may pass is asked again, elsewhere or later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cocoer_client.batch.server import Place, Server
from cocoer_client.client import CocoerClient
from cocoer_client.command import Connection
from cocoer_client.errors import (
    CocoerError,
    ModelChanged,
    ServerBusy,
    ServerError,
    ServerLost,
    ServerUnavailable,
    may_pass,
)
from cocoer_client.inputs import NOTHING
from cocoer_client.key import require_same_model
from cocoer_client.protocol import Options

if TYPE_CHECKING:
    from typing_extensions import Unpack

START = 2.0
"""Requests that a server gets at once in the beginning."""


class NoServer(CocoerError):
    """No server has answered for longer than one was willing to wait."""


class Clock:
    """The time, and waiting; tests have another."""

    def now(self) -> float:
        """Seconds."""
        return time.monotonic()

    def wait(self, changed: threading.Condition, timeout: float | None) -> None:
        """Until something has changed, or time is over."""
        changed.wait(timeout)


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
        connection: how they are reached.
        retries: times to ask again about an image that servers failed at while they were there.
        patience: seconds to go on without an answer from any server, and with one image that is never answered.
        model: RESULT's ``model`` of all answers; None: any.
        connect: makes the client of a URL; None: ``CocoerClient``.
        clock: the time.
    """

    urls: Sequence[str]
    maximum: int
    connection: Connection = field(default_factory=Connection)
    retries: int = 2
    patience: float = 600.0
    model: Mapping[str, Any] | None = None
    connect: Callable[..., Any] | None = None
    clock: Clock = field(default_factory=Clock)
    statistics: PoolStatistics = field(default_factory=PoolStatistics)

    def __post_init__(self) -> None:
        start = min(START, self.maximum)
        # Asking again is this pool's business: elsewhere, perhaps.
        options = {**self.connection.arguments(), "retries": 0}
        connect = self.connect or CocoerClient
        self.servers = [Server(url, connect(url, **options), start) for url in self.urls]
        self.changed = threading.Condition()
        self.last_answer = self.clock.now()
        self.silent_since: float | None = None
        """Since when what was asked was asked in vain."""
        self.last_error: Exception | None = None
        self.ended: CocoerError | None = None
        """Why no more is asked: all threads raise it."""

    def infer_raw(self, image: bytes, **options: Unpack[Options]) -> dict[str, Any]:
        """RESULT of an image, from any server.

        Raises:
            InvalidRequest: the image can't be used.
            ServerError, RequestTimeout, ServerUnavailable: servers have failed at this image again and again.
            NoServer: none has answered anything for ``patience`` seconds.
            ModelChanged: a server's model is not ``model`` any more.
        """
        first = self.clock.now()
        failed_at: list[str] = []
        while True:
            place = self.take(set(failed_at))
            # A server that was gone is asked about nothing first: if it can't answer that, it is not the image's fault.
            if place.probe and not self._is_back(place, options):
                continue
            try:
                result: dict[str, Any] = place.server.client.infer_raw(image, **options)
                self._require_model(place.server, result)
            except CocoerError as error:
                self.give_back(place, error)
                if not may_pass(error):
                    raise
                # It was there when this was sent, so it may be the image that it fails at.
                if isinstance(error, ServerLost) or not isinstance(error, ServerBusy):
                    failed_at.append(place.server.url)
                if len(failed_at) > self.retries or self.clock.now() - first > self.patience:
                    raise
            except BaseException as error:
                self.give_back(place, error)
                raise
            else:
                self.give_back(place, None)
                return result

    def _is_back(self, place: Place, options: Options) -> bool:
        """Whether a server that was gone is there again, with its model; gives the place back where it is not."""
        try:
            self._require_model(place.server, place.server.client.infer_raw(NOTHING, [], **options))
        except ModelChanged as error:
            self.give_back(place, error)
            raise
        except CocoerError as error:
            self.give_back(place, error if may_pass(error) else ServerError(str(error)))
            return False
        except BaseException as error:
            self.give_back(place, error)
            raise
        return True

    def _require_model(self, server: Server, result: Mapping[str, Any]) -> None:
        if self.model is None:
            return
        try:
            require_same_model(self.model, result)
        except ModelChanged as error:
            raise ModelChanged(f"{server.url}: {error}") from None

    def take(self, failed_at: Set[str] = frozenset()) -> Place:
        """A place at a server; waits for one.

        Args:
            failed_at: servers that have failed at this image, so that others are preferred.

        Raises:
            NoServer, ModelChanged: see ``infer_raw``.
        """
        with self.changed:
            while True:
                now = self.clock.now()
                self._give_up(now)
                if (place := self.try_take(now, failed_at)) is not None:
                    return place
                rests = [server.resting_until - now for server in self.servers if server.resting_until > now]
                self.clock.wait(self.changed, min(rests, default=None))

    def _give_up(self, now: float) -> None:
        if self.silent_since is not None and now - self.silent_since > self.patience:
            self.ended = self.ended or NoServer(
                f"no server has answered for {self.patience:g} s; the last said: {self.last_error}"
            )
        if self.ended is not None:
            self.changed.notify_all()
            raise self.ended

    def try_take(self, now: float, failed_at: Set[str] = frozenset()) -> Place | None:
        """A place, if there is one now: at a server that may be back, else at the one with most room."""
        others = [server for server in self.servers if server.url not in failed_at] or self.servers
        back = [server for server in others if not server.closed and server.room(now)]
        there = [server for server in others if server.closed] or self.servers
        best = back[0] if back else max(there, key=lambda server: server.room(now))
        return best.take(now) if best.room(now) >= 1 else None

    def give_back(self, place: Place, error: BaseException | None) -> None:
        """Tell how a request ended: None, with an answer."""
        with self.changed:
            now = self.clock.now()
            if isinstance(error, Exception) and may_pass(error):
                self._in_vain(place, error, now)
            else:
                place.answered(now, self.maximum)
                self.last_answer, self.silent_since = now, None
            if isinstance(error, ModelChanged):
                self.ended = error
            self.changed.notify_all()

    def _in_vain(self, place: Place, error: Exception, now: float) -> None:
        self.last_error = error
        if self.silent_since is None:
            self.silent_since = max(place.sent, self.last_answer)
        if isinstance(error, ServerBusy) and not isinstance(error, ServerLost):
            self.statistics.refused += 1
            place.refused(now)
        elif isinstance(error, ServerUnavailable):
            self.statistics.unreachable += 1
            place.lost(now)
        else:
            self.statistics.tried_again += 1
            place.failed(now)
