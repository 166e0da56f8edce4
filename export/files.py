"""Files of a repository: text and JSON written in one step, digests remembered."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from cocoer.files import replace_file
from cocoer_bls.manifest import digest_of


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step; leave it alone if it already says so."""
    if not path.is_file() or path.read_text() != text:
        replace_file(path, lambda temporary: temporary.write_text(text))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step; leave it alone if it already holds this."""
    if not path.is_file() or path.read_bytes() != content:
        replace_file(path, lambda temporary: temporary.write_bytes(content))


def write_json(path: Path, content: object) -> None:
    """Write JSON in one step."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no such file or it is damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def known_digest(path: Path) -> str:
    """``digest_of`` a file, which is read again only if it has changed: ONNX files have hundreds of megabytes."""
    status = path.stat()
    return _digest_at(path, status.st_ino, status.st_size, status.st_mtime_ns)


@cache
def _digest_at(path: Path, _inode: int, _size: int, _modified: int) -> str:
    return digest_of(path)
