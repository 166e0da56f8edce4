"""What the gateway logs: a line for each request, and what people who run it must know.

Nothing of an image, a result, the name of a file, a query or a key is in it.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

from cocoer_client.terminal import printable

LOGGER = "cocoer_web"
MAX_PATH = 100
"""Characters of a path."""
log = logging.getLogger(LOGGER)


@dataclass(frozen=True)
class LogOptions:
    """How it is logged.

    Args:
        level: the least, as ``logging`` calls them.
        form: ``text`` or ``json``.
    """

    level: str = "info"
    form: str = "text"


@dataclass
class Line:
    """Of one request.

    Args:
        status: of the response; 0: the caller had gone before there was one.
        reason: of ``problems.REASONS``; empty: none.
        ms: milliseconds until the response was sent.
        bytes_in: of the body, as far as it was read.
        bytes_out: of the response's body.
        caller: the name of the key; empty: none.
    """

    request_id: str
    method: str
    path: str
    status: int = 0
    reason: str = ""
    ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    caller: str = ""

    def write(self) -> None:
        """To the log."""
        if log.isEnabledFor(logging.INFO):
            self.method, self.path = self.method[:20], self.path[:MAX_PATH]
            self.ms = round(self.ms, 1)
            log.info("%s", self, extra={"request": self})

    def __str__(self) -> str:
        parts = [f"{self.method} {self.path} {self.status}"]
        parts += [self.reason] if self.reason else []
        parts += [f"{self.ms:g} ms", f"in {self.bytes_in}", f"out {self.bytes_out}", self.request_id]
        return " ".join([*parts, self.caller] if self.caller else parts)


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        # A path may have line ends, or what a terminal obeys; traces, which follow, have line ends of their own.
        return printable(super().formatMessage(record))


class _Json(_Text):
    def format(self, record: logging.LogRecord) -> str:
        content: dict[str, Any] = {"time": self.formatTime(record, self.datefmt), "level": record.levelname.lower()}
        request = getattr(record, "request", None)
        content |= asdict(request) if isinstance(request, Line) else {"message": record.getMessage()}
        if record.exc_info:
            content["trace"] = self.formatException(record.exc_info)
        return json.dumps(content)


def set_up(options: LogOptions) -> None:
    """Log to standard error; once in each process."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if options.form == "json" else _Text())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(options.level.upper())
    # It would log queries.
    logging.getLogger("uvicorn.access").disabled = True
