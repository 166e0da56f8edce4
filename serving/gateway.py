"""A ``cocoer-web`` for the length of a ``with`` block: ready before the block runs, always stopped."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

MODULE = "cocoer_client.web.command"
"""What the command ``cocoer-web`` runs; by its name, for nothing here imports the client."""
EXIT_TIMEOUT = 75.0
"""Seconds to finish what runs; the command itself gives up after 65 s (a body's and a request's 30 s, and a little)."""


class GatewayFailed(RuntimeError):
    """The gateway ended, or was not ready in time; the message ends with its log."""


class Gateway:
    """Runs ``cocoer-web`` on this machine.

    Args:
        triton: host:port of the gRPC endpoint of the server behind it.
        port: where it listens, on 127.0.0.1.
        log: file for its output.
        arguments: more of the command's options.
        timeout: seconds until it must be ready.
    """

    def __init__(self, triton: str, port: int, log: Path, arguments: Sequence[str] = (), timeout: float = 120) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log, self.timeout = log, timeout
        self.command = [sys.executable, "-m", MODULE, "--url", triton, "--port", str(port), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The command's; it stays known after it has ended.

        Raises:
            RuntimeError: it has not been started.
        """
        if self._process is None:
            raise RuntimeError("the gateway has not been started")
        return self._process

    def __enter__(self) -> Gateway:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output:
            # Ctrl-C in the terminal is the starting process's, which stops it before the server behind it.
            self._process = subprocess.Popen(
                self.command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def is_ready(self) -> bool:
        """Whether it answers, and the server behind it does."""
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer,
        ):
            return bool(answer.status == 200)
        return False

    def stop(self) -> int:
        """Let it finish what runs, and stop it; its exit code."""
        if self._process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=EXIT_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def log_tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise GatewayFailed(f"cocoer-web ended with code {self.process.returncode}:\n{self.log_tail()}")
            if self.is_ready():
                return
            time.sleep(0.1)
        raise GatewayFailed(f"cocoer-web was not ready within {self.timeout:g} s:\n{self.log_tail()}")
