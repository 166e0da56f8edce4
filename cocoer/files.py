"""Writing files so that readers see the old one or the new one, never half of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path


def temporary_name(path: Path) -> Path:
    """A file beside ``path`` that nobody else writes, and that git ignores."""
    # Not the process's number: that is 1 in every container.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def replace_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, then rename it; returns ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
