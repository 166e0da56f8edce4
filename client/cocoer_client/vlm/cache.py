"""Answers that were paid for, kept on disk: a run resumes, and pays for nothing twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from cocoer_client.files import replace_file
from cocoer_client.vlm.reply import Reply

FORMAT = 1
"""Of the files. Others are not read, and are written anew once their request is made again."""
PRIVATE_FILE, PRIVATE_DIRECTORY = 0o600, 0o700
"""Answers tell about people: nobody else on this machine reads them."""

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Kept:
    """A file."""

    format: int
    key: str
    reply: Reply


_kept = pydantic.TypeAdapter(_Kept)


class Cache:
    """Replies by what was asked, one file each; threads and processes may share a directory.

    Replies of any kind are kept, refusals and those that were cut off too: the same request, with temperature 0 and the
    same limit of tokens, would be answered the same. Failures are not: they are no replies.

    What can't be written is kept in memory, with one warning: what was paid for is not lost for this run.

    Args:
        directory: made when first needed; None: nothing is kept beyond this run.
    """

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self._unwritten: dict[str, Reply] = {}
        self._warned = False
        self._lock = threading.Lock()

    @staticmethod
    def key(base_url: str, body: Mapping[str, Any]) -> str:
        """Of everything that an answer depends on: server, model, prompt, images, options.

        Of what was wanted, not of what the server takes of it (``Endpoint.notes``), which each run finds out anew. The
        mode is in it as far as it changes what is sent: two modes that send the same, for both exclude the same level,
        are asked once.
        """
        text = json.dumps([base_url.rstrip("/"), body], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, key: str) -> Reply | None:
        """What was answered before; None: nothing, or the file can't be read, or is not what it should be."""
        if (reply := self._unwritten.get(key)) is not None or self.directory is None:
            return reply
        try:
            kept = _kept.validate_json(self._path(self.directory, key).read_bytes(), strict=True)
        except (OSError, ValueError):  # Pydantic's are ValueErrors
            return None
        return kept.reply if (kept.format, kept.key) == (FORMAT, key) else None

    def put(self, key: str, reply: Reply) -> None:
        """Keep it."""
        if self.directory is None:
            self._unwritten[key] = reply
            return
        path = self._path(self.directory, key)
        content = _kept.dump_json(_Kept(FORMAT, key, reply))
        try:
            for folder in (self.directory, path.parent):
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.mkdir(PRIVATE_DIRECTORY, exist_ok=True)
            replace_file(path, lambda temporary: _write_private(temporary, content))
        except OSError as error:
            self._unwritten[key] = reply
            self._warn(error)

    @staticmethod
    def _path(directory: Path, key: str) -> Path:
        return directory / key[:2] / f"{key}.json"

    def _warn(self, error: OSError) -> None:
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            logger.warning(
                "answers can't be kept in %s (%s): they are in this run's results, and the next run will ask again",
                self.directory,
                error.strerror or error,
            )


def _write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb") as file:
        file.write(content)
