"""Globs on this machine: ``*``, ``?``, ``[...]`` in a name, ``**`` for any folders between."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

ANY = "**"


def has_magic(name: str) -> bool:
    """Whether a name can be a glob.

    >>> has_magic("a/*.jpg"), has_magic("pics [2020]"), has_magic("a.jpg")
    (True, True, False)
    """
    return re.search(r"[*?[]", name) is not None


def split(pattern: str) -> tuple[str, list[str], list[str]]:
    """The folder that a glob begins in, its parts before ``**``, and those from there.

    >>> split("/data/*/x/**/*.jpg"), split("*.jpg")
    (('/data', ['*', 'x'], ['**', '*.jpg']), ('', ['*.jpg'], []))
    """
    pattern = pattern.replace(os.sep, "/")
    parts = [part for part in pattern.split("/") if part]
    fixed = next((index for index, part in enumerate(parts) if has_magic(part)), len(parts))
    deep = parts.index(ANY) if ANY in parts else len(parts)
    start = ("/" if pattern.startswith("/") else "") + "/".join(parts[:fixed])
    return start, parts[fixed:deep], parts[deep:]


def expand(start: str, parts: Sequence[str], problems: list[str]) -> Iterator[str]:
    """Paths that match, sorted; names that begin with a dot only where the glob says the dot.

    Args:
        start: a folder; empty for the current one.
        parts: without ``**``.
        problems: gets folders that can't be read.
    """
    if not parts:
        if not start or os.path.lexists(start):
            yield start
        return
    first, *rest = parts
    if not has_magic(first):
        yield from expand(os.path.join(start, first), rest, problems)
        return
    try:
        names = sorted(os.listdir(start or "."))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        problems.append(f"{start or '.'}: {error.strerror}; nothing in this folder is read")
        return
    for name in names:
        if fnmatchcase(name, first) and (first.startswith(".") or not name.startswith(".")):
            yield from expand(os.path.join(start, name), rest, problems)


def matches(path: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a path, or a folder that it is in, is what a glob with ``**`` names.

    >>> matches(["a", "b", "c.jpg"], ["**", "*.jpg"]), matches(["a", "b", "c.jpg"], ["**", "b"])
    (True, True)
    >>> matches(["c.jpg"], ["**", "*.jpg"]), matches(["c.jpg"], ["**", "b"])
    (True, False)
    """
    if not parts:
        return True
    if parts[0] == ANY:
        return any(matches(path[skipped:], parts[1:]) for skipped in range(len(path)))
    return bool(path) and fnmatchcase(path[0], parts[0]) and matches(path[1:], parts[1:])
