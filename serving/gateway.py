"""A ``cocoer-web`` for the length of a ``with`` block: ready before the block runs, always stopped."""

from __future__ import annotations

import contextlib
import http.client
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from serving.background import Background

MODULE = "cocoer_client.web.command"
"""What the command ``cocoer-web`` runs; by its name, for nothing here imports the client."""
EXIT_TIMEOUT = 75.0
"""Seconds to finish what runs; the command itself gives up after 65 s (a body's and a request's 30 s, and a little)."""


class Gateway(Background):
    """Runs ``cocoer-web`` on this machine. Ctrl-C in the terminal is the starting process's alone.

    Args:
        triton: host:port of the gRPC endpoint of the server behind it.
        port: where it listens, on 127.0.0.1.
        log: file for its output.
        arguments: more of the command's options.
        timeout: seconds until it must be ready.
    """

    name: ClassVar[str] = "cocoer-web"
    exit_timeout: ClassVar[float] = EXIT_TIMEOUT
    readiness: ClassVar[str] = "/readyz"
    """What is asked: whether it answers, and the server behind it does."""

    def __init__(self, triton: str, port: int, log: Path, arguments: Sequence[str] = (), timeout: float = 120) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", MODULE, "--url", triton, "--port", str(port), *arguments]
        super().__init__(command, log, timeout, own_session=True)

    def is_ready(self) -> bool:
        """Whether it answers, and the server behind it does."""
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            urllib.request.urlopen(self.url + self.readiness, timeout=5) as answer,
        ):
            return bool(answer.status == 200)
        return False
