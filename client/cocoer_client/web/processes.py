"""Several processes that share one port: started anew where one dies, ended together."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from cocoer_client.command import DONE, SOME_FAILED
from cocoer_client.web.log import log, set_up
from cocoer_client.web.metrics import SHARED
from cocoer_client.web.serve import Service, serve

MAX_DEATHS, WITHIN = 10, 60.0
"""So many deaths in so many seconds, and there is no use in starting more."""
LOOK = 0.2
"""Seconds between two looks at signals."""
FORCED = 3.0
"""Seconds that processes have to end at once before they are killed."""


def serve_in_processes(service: Service, listening: socket.socket, number: int) -> int:
    """Serve until a signal.

    Args:
        service: what each process does.
        listening: the bound socket that they share.
        number: of processes.

    Returns:
        The exit status.
    """
    set_up(service.log)
    with _shared_metrics():
        return _Processes(service, listening, number).run()


@contextlib.contextmanager
def _shared_metrics() -> Iterator[None]:
    """A directory for the figures of all processes, which they find in their environment; removed at the end."""
    directory = tempfile.mkdtemp(prefix="cocoer-web-")
    os.environ[SHARED] = directory
    try:
        yield
    finally:
        del os.environ[SHARED]
        shutil.rmtree(directory, ignore_errors=True)


class _Processes:
    def __init__(self, service: Service, listening: socket.socket, number: int) -> None:
        self.service, self.listening = service, listening
        self.signals: list[int] = []
        self.handed_on = 0
        self.kill_at: float | None = None
        self.deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        self.running: list[SpawnProcess] = []
        self.failed = False
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, self._note)
        for index in range(number):
            self._start(first=index == 0)

    def run(self) -> int:
        try:
            while self.running:
                self._hand_on()
                for sentinel in wait([process.sentinel for process in self.running], LOOK):
                    self._ended(next(process for process in self.running if process.sentinel == sentinel))
        finally:
            for process in self.running:
                process.kill()
        if len(self.signals) > 1:
            return 128 + self.signals[-1]
        return SOME_FAILED if self.failed else DONE

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)

    def _start(self, first: bool) -> None:
        # Not on its command line, nor in its environment: what it is told may hold secrets.
        process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(self.service, self.listening, first), name="cocoer-web"
        )
        # Ctrl-C reaches it too, perhaps before it can say what it makes of that: this process tells it to end.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        process.start()
        signal.signal(signal.SIGINT, before)
        self.running.append(process)

    @property
    def ending(self) -> bool:
        return bool(self.signals) or self.failed

    def _hand_on(self) -> None:
        """Signals, to all processes; those that are not gone in time are killed."""
        while self.handed_on < min(len(self.signals), 2):
            self.handed_on += 1
            self.listening.close()
            for process in self.running:
                process.terminate()
            patience = self.service.patience + FORCED if self.handed_on == 1 else FORCED
            self.kill_at = time.monotonic() + patience
        if self.kill_at is not None and time.monotonic() > self.kill_at:
            for process in self.running:
                process.kill()

    def _ended(self, process: SpawnProcess) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        process.join()
        self.running.remove(process)
        mark_process_dead(process.pid, os.environ[SHARED])  # type: ignore[no-untyped-call]
        if self.ending:
            self.failed |= process.exitcode not in (0, -signal.SIGTERM)  # the latter, if it had not begun to serve
            return
        log.error("a process has ended with status %s; another takes its place", process.exitcode)
        self.deaths.append(time.monotonic())
        if len(self.deaths) == MAX_DEATHS and self.deaths[-1] - self.deaths[0] < WITHIN:
            log.error("%d processes have ended within %g s; this one ends too", MAX_DEATHS, WITHIN)
            self.failed = True
            for other in self.running:
                other.terminate()
            return
        self._start(first=False)


def _work(service: Service, listening: socket.socket, first: bool) -> None:
    """In each process."""
    parent: Any = multiprocessing.parent_process()

    def end_with_the_parent() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_the_parent, daemon=True).start()
    serve(service, listening, first, worker=True)
