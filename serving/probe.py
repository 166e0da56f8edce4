"""Asking the whole path, again and again: a server that is up, and does not answer, is noticed.

Triton calls a server ready whose model process hangs, whose GPU is in an error that only a new process ends, or whose
models fail every request. A probe is an inference of two small images: of one the person is given (recognition), in
the other the face is to be found (detection). Metrics of ``cocoer`` leave it out, by its id.

It never stands in the way of callers: where persons were answered since the last look, nothing is asked; and a server
that is merely busy is told from one that hangs by what its models finish meanwhile. Where one of several instances of
``cocoer`` hangs, the others answer: each tells on the metrics endpoint how it goes on.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Protocol

from serving.endpoints import MODEL, Outcome, Progress

logger = logging.getLogger(__name__)

PERIOD = 10.0
"""Seconds between two looks."""
DEADLINES = 3
"""A probe may take so many periods: longer than a request may wait in the queue."""
FAILURES = 3
"""Probes in a row without an answer, while nothing else is finished: the server is given up."""
STILL = FAILURES * DEADLINES
"""Looks in a row that find an instance of ``cocoer`` in the same call while persons are answered: it hangs. Calls wait
for their turn at the models behind, so that one which works is not overtaken by all that come after it."""


class Server(Protocol):
    """What a probe asks."""

    def ready(self) -> bool: ...
    def progress(self) -> Progress | None: ...
    def ask(self, seconds: float) -> tuple[Outcome, str]: ...


class Probe:
    """Watches one server in a thread of its own, from the moment that it is ready.

    Args:
        server: where it is asked.
        period: seconds between two looks; 0: it never looks, and knows nothing against the server.
    """

    def __init__(self, server: Server, period: float = PERIOD) -> None:
        self.server, self.period = server, period
        self.verdict = ""
        """Why the server should be started anew; empty while there is no reason."""
        self.doubt = "the server is starting" if period else ""
        """Why it can't be called ready; empty once it is, and while probes are answered."""
        self._over = threading.Event()
        self._failures = 0
        self._seen: Progress | None = None
        self._still: dict[str, tuple[float, int]] = {}
        """Of each instance that works: its step, and in how many looks it has been that while others were answered."""

    @contextlib.contextmanager
    def watching(self) -> Iterator[Probe]:
        """Look after the server during the block."""
        if not self.period:
            yield self
            return
        thread = threading.Thread(target=self._run, name="probe", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.end()

    def end(self) -> None:
        """The server is to stop, so that no answer says nothing more; a probe that is on its way ends by itself."""
        self._over.set()

    def _run(self) -> None:
        while not self.server.ready():
            if self._over.wait(min(1.0, self.period)):
                return
        self._seen, self.doubt = self.server.progress(), ""
        while not self._over.wait(self.period) and not self.verdict:
            if not self.look():
                return

    def look(self) -> bool:
        """Ask, unless callers get answers anyway; False where there is nothing to look after."""
        before = self.server.progress()
        if before and self._seen and before.persons > self._seen.persons:
            outcome, words = Outcome.ANSWERED, ""
        else:
            outcome, words = self.server.ask(DEADLINES * self.period)
        self._seen = after = self.server.progress()
        if outcome is Outcome.NOT_SERVED:
            logger.warning("%s can't be asked whether it answers (%s), so that a hang is not noticed", MODEL, words)
            return False
        if outcome is Outcome.ANSWERED or _advanced(outcome, before, after):
            self._failures, self.doubt = 0, ""
            self._watch_instances(after, outcome is Outcome.ANSWERED)
        elif not self._over.is_set():
            self._failures += 1
            self.doubt = f"{MODEL} does not answer ({words})"
            logger.warning("%s was asked whether it answers: %s (%d of %d)", MODEL, words, self._failures, FAILURES)
            if self._failures == FAILURES:
                self.verdict = self.doubt
        return True

    def _watch_instances(self, now: Progress | None, answered: bool) -> None:
        """The one that hangs does not answer probes; Triton gives them to the others."""
        before, self._still = self._still, {}
        for name, step in now.steps.items() if now else ():
            if step:
                same, looks = before.get(name, (0, 0))
                self._still[name] = (step, looks + answered if same == step else 0)
        if hanging := [name for name, (_, looks) in self._still.items() if looks >= STILL]:
            seconds = STILL * self.period
            self.verdict = f"{', '.join(hanging)} has not moved for {seconds:g} s, while others answer"


def _advanced(outcome: Outcome, before: Progress | None, after: Progress | None) -> bool:
    """Whether a server does its work although the probe has no answer.

    A model that only fails lets others go on, so that after an error only persons count; where the probe still waits,
    anything does that is finished.
    """
    if before is None or after is None:
        return False
    return after.persons > before.persons or (outcome is Outcome.SILENT and after.work > before.work)
