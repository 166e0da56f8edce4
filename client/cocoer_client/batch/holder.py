"""Who is at work on an output directory, and whether it still is."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

HELD: set[str] = set()
"""Tokens of this process's leases."""


@dataclass(frozen=True)
class Holder:
    """Who has it.

    Args:
        name: for people.
        place: where process numbers mean the same.
        pid: its process.
        token: tells two apart in any case.
        beat: Unix time of its last sign of life.
    """

    name: str
    place: str
    pid: int
    token: str
    beat: float

    def is_gone(self) -> bool:
        """Whether its process was here and is no more."""
        if self.place != this_place():
            return False
        if self.pid == os.getpid():
            # A container that was started again has the same numbers.
            return self.token not in HELD
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        return False


def this_place() -> str:
    parts = [socket.gethostname()]
    # A host's name is shared by its containers, whose processes have numbers of their own. Linux tells them apart.
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)
