"""The processes of a Triton: its own, and a stub for each instance of a Python model. What /proc says of them."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

STUB = "triton_python_b"
"""What /proc calls a process of the Python backend (15 characters of its name)."""
STOPPED = 10.0
"""Seconds that a process may be stopped (SIGSTOP); others of its model may hide from callers that it does nothing."""
MODEL_IN_COMMAND = re.compile(rb"/([^/\0]+)/\d+/model\.[a-z]+\0")


def stubs(server: int) -> dict[int, tuple[str, str]]:
    """The Python backend's processes of a server: pid -> state (Z: died, T: stopped), and the model's name (empty if it
    died).

    A stub that Triton ends itself is never seen as Z for long, for Triton waits for it.
    """
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, state, parent = stat(entry)
            if name == STUB and int(parent) == server:
                model = MODEL_IN_COMMAND.search((entry / "cmdline").read_bytes())
                found[int(entry.name)] = (state, model[1].decode(errors="replace") if model else "")
        except OSError:  # it has just ended
            continue
    return found


def stat(process: Path) -> tuple[str, str, str]:
    """Name, state and parent of a process, from its directory in /proc; raises OSError where it has ended."""
    name, _, rest = (process / "stat").read_text().partition("(")[2].rpartition(")")
    state, parent = rest.split()[:2]
    return name, state, parent


class Processes:
    """Looks after the processes of one server.

    Args:
        server: Triton's pid.
    """

    def __init__(self, server: int) -> None:
        self.server = server
        self.models: dict[int, str] = {}
        """Of the stubs; a dead process no longer tells."""
        self._dead: set[int] = set()
        self._stopped: dict[int, float] = {}

    def trouble(self) -> str:
        """Why the server should be started anew, empty if nothing is wrong; to be asked again and again."""
        found = stubs(self.server)
        self.models.update({pid: model for pid, (_, model) in found.items() if model})
        states = {pid: state for pid, (state, _) in found.items()}
        dead = {pid for pid, state in states.items() if state == "Z"}
        lost, self._dead = dead & self._dead, dead  # Triton waits for those that it ends itself
        if lost:
            return f"the process of model {self._names(lost)} has died"
        with contextlib.suppress(OSError):
            states[self.server] = stat(Path("/proc") / str(self.server))[1]
        now = time.monotonic()
        self._stopped = {pid: self._stopped.get(pid, now) for pid, state in states.items() if state == "T"}
        still = {pid for pid, since in self._stopped.items() if now - since >= STOPPED}
        return f"a process of {self._names(still)} is stopped" if still else ""

    def _names(self, pids: set[int]) -> str:
        known = {**self.models, self.server: "Triton itself"}
        return ", ".join(sorted({known.get(pid, "unknown") for pid in pids}))
