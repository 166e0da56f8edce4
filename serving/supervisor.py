"""Keeps a Triton running: passes it signals, and starts it anew when it has stopped to answer.

When the process of a model has died, Triton 24.10 goes on without it: every request to the model fails,
``/v2/health/ready`` still says yes, and the process is never started again. So it does when a process hangs
(``serving.probe``). Stopping the whole server makes readiness true, and starting it brings the model back.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

from serving.drain import UNLOADING, Drain
from serving.probe import Probe
from serving.processes import Processes

logger = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two looks at the processes."""
LOOK = 0.05
"""Seconds between two looks whether the server has ended, or is to."""
GAP = 0.02
"""Seconds between two looks for a moment in which nothing runs: callers who keep a connection pause now and then."""
GRACE = 5.0
"""Seconds for requests in flight, when a crippled server is stopped."""
MAX_RESTARTS, RESTART_PERIOD = 3, 600.0
"""Times a server is started anew within so many seconds; more often, and something else is wrong."""
AT_ONCE = Drain(http=None, metrics=None)
GAVE_UP = 70
"""Exit code then (EX_SOFTWARE)."""


def _stop_with_parent() -> None:
    """In the child: have the kernel send SIGTERM when the launcher dies, however it dies (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Supervisor:
    """Runs one server at a time.

    Args:
        command: the server's command line.
        environment: its environment.
        drain: how it finishes what it has accepted when it is asked to stop.
        tidy: called after a server has ended, to remove what it may have left.
        probe: makes what asks a server whether it answers; None: nobody asks.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        drain: Drain = AT_ONCE,
        tidy: Callable[[], None] = lambda: None,
        probe: Callable[[], Probe] | None = None,
    ) -> None:
        self.command, self.environment, self.drain, self.tidy = command, environment, drain, tidy
        self.probe = probe
        self.signals: list[int] = []
        """Asked for and not passed on yet."""
        self.stopping = False
        self.cut_off: int | None = None
        """Exit code of a server that connections would have held; None: it ends by itself."""
        self.restarts: list[float] = []
        self._watching: Probe | None = None

    def not_ready(self) -> str:
        """Why the server should get no requests now; empty where nothing is known against it. Needs a probe."""
        if self.stopping:
            return "the server is stopping"
        probe = self._watching
        if probe is None:
            return "the server is starting"
        return probe.doubt or ("" if probe.server.ready() else "Triton is not ready")

    def run(self) -> int:
        """Until the server ends or is asked to stop; its exit code (128 + n if signal n killed it)."""
        for stop in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stop, self.ask_to_stop)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup: the terminal may go
            signal.signal(signal.SIGHUP, self.ask_to_stop)
        while True:
            code, reason = self._run_once()
            if self.cut_off is not None:
                return self.cut_off
            if self.stopping or not reason:
                return code if code >= 0 else 128 - code
            now = time.monotonic()
            self.restarts = [moment for moment in self.restarts if now - moment < RESTART_PERIOD]
            if len(self.restarts) == MAX_RESTARTS:
                logger.error(
                    "%s, for the %dth time in %.0f minutes; giving up", reason, MAX_RESTARTS + 1, RESTART_PERIOD / 60
                )
                return GAVE_UP
            self.restarts.append(now)
            logger.error("%s; starting the server anew (%d of %d)", reason, len(self.restarts), MAX_RESTARTS)

    def ask_to_stop(self, number: int, _frame: FrameType | None = None) -> None:
        """Signal handler; a second signal ends the wait for what is still running."""
        self.stopping = True
        # Triton knows no SIGHUP, and would die of it.
        self.signals.append(signal.SIGTERM if number == signal.SIGHUP else number)

    def _run_once(self) -> tuple[int, str]:
        """Exit code of one server, and why it should be started anew (empty: it should not)."""
        # Its own session: a Ctrl-C at the terminal reaches it once, through us.
        process = subprocess.Popen(
            self.command, env=dict(self.environment), start_new_session=True, preexec_fn=_stop_with_parent
        )
        try:
            with self.probe().watching() if self.probe else contextlib.nullcontext() as self._watching:
                return self._watch(process, self._watching)
        finally:
            self._watching = None
            with contextlib.suppress(ProcessLookupError):  # all of it has ended by itself
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.tidy()

    def _watch(self, process: subprocess.Popen[bytes], probe: Probe | None) -> tuple[int, str]:
        processes = Processes(process.pid)
        while True:
            if self.signals:
                if probe:
                    probe.end()
                self._pass_on(process)
            until = time.monotonic() + POLL
            while (code := process.poll()) is None and not self.signals and time.monotonic() < until:
                time.sleep(LOOK)
            if code is not None:
                return code, f"tritonserver was killed by signal {-code}" if code < 0 else ""
            trouble = processes.trouble() or (probe.verdict if probe else "")
            if trouble and not self.stopping:
                if probe:
                    probe.end()
                self._end(process)
                return -signal.SIGKILL, trouble

    def _pass_on(self, process: subprocess.Popen[bytes]) -> None:
        """Give the server its signal, and let it finish what it has accepted."""
        number = self.signals.pop(0)

        def waiting() -> bool:
            return process.poll() is None and not self.signals

        with self.drain.hold() as held:
            if not held:
                self.drain.wait(waiting)  # newcomers come in meanwhile; all the same, most is finished
            process.send_signal(number)
            if not held:
                return
            idle = self.drain.wait(waiting)
        if self.drain.seconds > 0:  # else it is not to be waited for
            self._cut_connections(process, waiting, idle)

    def _cut_connections(self, process: subprocess.Popen[bytes], waiting: Callable[[], bool], idle: bool) -> None:
        """End a server that waits for connections that callers keep open.

        Triton would wait for them until its exit timeout, and then fail: 24.10 with code 1, or by a crash if requests
        still come in over them. They are cut off at a moment when none is being answered, if there is one.

        Args:
            process: Triton's.
            waiting: whether to go on.
            idle: nothing was running any more; else the time is over.
        """
        deadline = time.monotonic() + UNLOADING
        while idle and waiting() and time.monotonic() < deadline:
            time.sleep(min(POLL, 0.1))
        left = UNLOADING if idle else UNLOADING - 0.5  # then Triton gives up, perhaps by a crash
        nothing_lost = self.drain.wait(waiting, left, times=1, pause=GAP)
        if not waiting() or self.drain.running() is None:  # it ends by itself, or knows best
            return
        if nothing_lost:
            logger.warning("callers keep HTTP connections open, and all they asked is answered: they are cut off")
        else:
            logger.warning("the time to stop is over; requests that are still running are lost")
        self.cut_off = 0 if nothing_lost else 1
        process.kill()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Let a crippled server finish what it can, newcomers kept out; it does not end by itself."""
        with self.drain.hold():
            process.terminate()
            self.drain.wait(lambda: process.poll() is None and not self.stopping, GRACE)
