"""One build at a time of a repository, and a sentence about the other for whoever comes second."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from export.files import read_json, write_json

LOCK_FILE, HOLDER_FILE = "lock", "holder.json"


class Locked(Exception):
    """Another build writes the same repository; says which."""


@contextlib.contextmanager
def alone(directory: Path, repository: Path, command: str) -> Iterator[None]:
    """Hold the lock of a repository; the system releases it too, should this process end.

    Args:
        directory: of the lock.
        repository: as the user calls it, for the message.
        command: of this process, for the message that others get.

    Raises:
        Locked: another process holds it.
    """
    lock, holder = FileLock(directory / LOCK_FILE), directory / HOLDER_FILE
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Locked(f"{repository} is being written by {_told(holder)}; run this again when that is done") from None
    try:
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        write_json(holder, {"process": os.getpid(), "host": socket.gethostname(), "since": started, "command": command})
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _told(holder: Path) -> str:
    """Who holds the lock; nobody has said so yet where it was taken just now."""
    one = read_json(holder)
    try:
        return f"process {one['process']} on {one['host']} since {one['since']} ({one['command']})"
    except KeyError:
        return "another process"
