"""A server for the length of a ``with`` block: ready before the block runs, always stopped."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, TypeVar

Started = TypeVar("Started", bound="Background")
LOOK = 0.1
"""Seconds between two looks whether it is ready."""


class ServerFailed(RuntimeError):
    """The server ended, or was not ready in time; the message ends with its log."""


class Background:
    """Runs a command in the background. Subclasses say which, and when it is ready.

    Args:
        command: with its arguments.
        log: file for its output.
        timeout: seconds until it must be ready.
        environment: its variables; None: this process's.
        own_session: whether Ctrl-C in the terminal is this process's alone, which then stops it when it likes.
        directory: in which it runs; None: this process's.
    """

    name: ClassVar[str]
    """Of the command, for messages."""
    exit_timeout: ClassVar[float]
    """Seconds that it has to end; then it is killed."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        timeout: float,
        environment: Mapping[str, str] | None = None,
        own_session: bool = False,
        directory: Path | None = None,
    ) -> None:
        self.command, self.log, self.timeout = command, log, timeout
        self.environment, self.own_session, self.directory = environment, own_session, directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The command's; it stays known after it has ended.

        Raises:
            RuntimeError: it has not been started.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process

    def is_ready(self) -> bool:
        """Whether the block may run."""
        raise NotImplementedError

    def __enter__(self: Started) -> Started:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self.environment,
                start_new_session=self.own_session,
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

    def stop(self) -> int:
        """Let it finish what runs, and stop it; its exit code."""
        if self._process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=self.exit_timeout)
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
                raise ServerFailed(f"{self.name} ended with code {self.process.returncode}:\n{self.log_tail()}")
            if self.is_ready():
                return
            time.sleep(LOOK)
        raise ServerFailed(f"{self.name} was not ready within {self.timeout:g} s:\n{self.log_tail()}")
