"""What is asked again where a failure may pass, and for how long."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from cocoer_client.connection import pause
from cocoer_client.errors import CocoerError, InvalidRequest, ServerLost, ServerUnavailable, SourceUnavailable, may_pass

Answer = TypeVar("Answer")
FIRST_PAUSE, MAX_PAUSE = 0.2, 4.0
"""Seconds before the first and, doubled each time, before later tries."""
FIRST_AFTER_LOSS, MAX_AFTER_LOSS = 4.0, 16.0
"""The same after the loss of a server, or of a process of its model: until it stops, what is left of it answers nothing
with an error, and at once."""
IN_A_ROW = 3
"""Images without a result, and none with one between them, after which it is not the images' fault."""


class Patience:
    """One server's, shared by the threads that ask it.

    A server that is away, restarting or busy is waited for: until it answers anybody, or has answered nobody for so
    long that the run had better end. A time-out, a failure and the death of a process may be one image's own fault, so
    each image has a number of tries; where several in a row have used them up, the run ends, too.

    Args:
        retries: times an image is asked again after a time-out or a failure of the server, or its loss.
        seconds: without any answer, after which it is over.
        stopped: set where nobody waits for an answer any more.
        probe: asks the server about nothing. What was lost with an image is asked so first: if it isn't back, it is not
            the image's fault.
    """

    def __init__(self, retries: int, seconds: float, stopped: threading.Event, probe: Callable[[], object]) -> None:
        self.retries, self.seconds, self.stopped, self.probe = retries, seconds, stopped, probe
        self.lost: CocoerError | None = None
        """Why it is over."""
        self._lock = threading.Lock()
        self._since: float | None = None
        """When the first of the failures was that no image's answer has come after."""
        self._heard = -math.inf
        """When the server last answered a probe."""
        self._given_up = 0

    def ask(self, call: Callable[[], Answer]) -> Answer:
        """The answer of ``call``, which is called again while that makes sense; raises its last failure."""
        tries = failures = 0
        while True:
            if self.lost is not None:
                raise self.lost
            try:
                answer = call()
            except CocoerError as error:
                if not may_pass(error):
                    if isinstance(error, InvalidRequest):
                        self._answered()
                    raise
                lost = isinstance(error, ServerLost)
                failures += lost or not isinstance(error, ServerUnavailable)
                self._without_answer(error, is_last=failures > self.retries)
            else:
                self._answered()
                return answer
            if lost:
                self._pause(failures - 1, after_loss=True)
                self._until_back()
            else:
                self._pause(tries)
                tries += 1

    def _until_back(self) -> None:
        tries = 0
        while True:
            try:
                self.probe()
            except CocoerError as error:
                if not may_pass(error):
                    return  # an answer, too
                self._without_answer(error, is_last=False, is_away=True)
            else:
                break
            self._pause(tries)
            tries += 1
        with self._lock:
            self._heard = time.monotonic()

    def read(self, call: Callable[[], Answer]) -> Answer:
        """As ``ask``, of an image that is read from the web, a bucket or a disk: the server has no part in it."""
        for tries in range(self.retries):
            try:
                return call()
            except SourceUnavailable:
                self._pause(tries)
        return call()

    def _pause(self, tries: int, after_loss: bool = False) -> None:
        first, most = (FIRST_AFTER_LOSS, MAX_AFTER_LOSS) if after_loss else (FIRST_PAUSE, MAX_PAUSE)
        if self.stopped.wait(pause(tries, first, most)):
            raise InterruptedError("the run has ended")

    def _answered(self) -> None:
        with self._lock:
            self._since, self._given_up = None, 0

    def _without_answer(self, error: CocoerError, is_last: bool, is_away: bool = False) -> None:
        """Note it; raises it where it was the image's last try, or patience is over."""
        with self._lock:
            now = time.monotonic()
            if self._since is None:
                self._since = now
            self._given_up += is_last
            away = is_away or isinstance(error, ServerUnavailable)
            since = max(self._since, self._heard) if self._given_up < IN_A_ROW else self._since
            if (away or self._given_up >= IN_A_ROW) and now - since >= self.seconds:
                self.lost = error
        if is_last or self.lost is not None:
            raise error
