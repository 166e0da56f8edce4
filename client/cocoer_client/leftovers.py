"""Temporary files that killed runs have left, and whose they are.

Their names say it: ``.NAME.PLACE-PROCESS-TOKEN.part``. PLACE is where process numbers are the same (a machine since it
was started, a container), so that it can be told there whether the process is still at work.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import secrets
import threading
import time
from pathlib import Path

PATTERN = re.compile(r"^\..+\.(?:([0-9a-f]{6})-(\d+)([0-9a-f]{4})-)?[0-9a-f]{8}\.part(?:\.\w+)?$", re.DOTALL)
OLD = 24 * 3600.0
"""Seconds after which a file that is written elsewhere, or whose name says nothing of who writes it, is left."""
_seen: set[str] = set()
_lock = threading.Lock()


@functools.cache
def place() -> str:
    """Six hexadecimal digits for where process numbers mean the same."""
    told = [platform.node()]
    with contextlib.suppress(OSError):  # Linux has both
        told += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:6]


@functools.cache
def _nonce(process: int) -> str:
    """Four digits for a process, since containers have the same numbers one after the other."""
    return secrets.token_hex(2)


def own_mark() -> str:
    """Of this process, in the names of its temporary files."""
    return f"{place()}-{os.getpid()}{_nonce(os.getpid())}"


def is_left(name: str, modified: float) -> bool:
    """Whether a temporary file of ours is nobody's any more.

    Args:
        name: the file's.
        modified: when it was written to, in seconds since the epoch.
    """
    if (match := PATTERN.match(name)) is None:
        return False
    where, process, nonce = match.groups()
    if where != place() or os.name == "nt":  # where asking for a process would end it
        return time.time() - modified > OLD
    if int(process) == os.getpid():
        return nonce != _nonce(os.getpid())
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's, and alive
        return False
    return time.time() - modified > OLD  # the number may be another's by now


def clean(folder: Path) -> None:
    """Remove what is left in a folder, the first time that this process writes there; what can't be removed stays."""
    with _lock:
        key = os.path.abspath(folder)
        if key in _seen:
            return
        _seen.add(key)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and ".part" in entry.name:
                with contextlib.suppress(OSError):
                    if is_left(entry.name, entry.stat(follow_symlinks=False).st_mtime):
                        os.unlink(entry.path)
