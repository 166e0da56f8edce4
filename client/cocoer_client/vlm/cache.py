"""Answers that were paid for, kept on disk: a run resumes, and pays for nothing twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cocoer_client.files import replace_file
from cocoer_client.vlm.endpoint import Reply, Usage


class Cache:
    """Replies by what was asked.

    Args:
        directory: made when first needed; None: nothing is kept.
    """

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory

    @staticmethod
    def key(base_url: str, body: Mapping[str, Any]) -> str:
        """Of everything that an answer depends on: server, model, prompt, images, options."""
        text = json.dumps([base_url, body], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, key: str) -> Reply | None:
        """What was answered before; None: nothing, or the file can't be read."""
        try:
            kept = json.loads(self._path(key).read_text(encoding="utf-8"))
            return Reply(**{**kept, "usage": Usage(**kept["usage"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, key: str, reply: Reply) -> None:
        """Keep it."""
        if self.directory is not None:
            text = json.dumps(dataclasses.asdict(reply))
            replace_file(self._path(key), lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def _path(self, key: str) -> Path:
        return (self.directory or Path("/nonexistent")) / key[:2] / f"{key}.json"
