"""A ``cocoer-web`` for the length of a ``with`` block: a process of its own, on a free port."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from serving.server import free_ports
from tests.waiting import PATIENCE, until

PATIENT = ("--timeout", "120", "--body-timeout", "120", "--header-timeout", "120")
"""A machine that has much else to do makes requests slow, not wrong."""


class Gateway:
    """A gateway that runs.

    Args:
        triton: host:port of the server behind it.
        log: file of its output.
        arguments: more of ``cocoer-web``'s options, which go before ``PATIENT``.
    """

    def __init__(self, triton: str, log: Path, *arguments: str) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        command = [sys.executable, "-m", "cocoer_client.web.command", "--url", triton, "--port", str(self.port)]
        with log.open("w") as output:
            self.process = subprocess.Popen([*command, *PATIENT, *arguments], stdout=output, stderr=subprocess.STDOUT)

    def is_up(self) -> bool:
        """Whether it answers."""
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
        return False


@contextlib.contextmanager
def gateway(triton: str, log: Path, *arguments: str) -> Iterator[Gateway]:
    """One that answers; ended with the block, by SIGTERM."""
    running = Gateway(triton, log, *arguments)
    try:
        until(running.is_up, log.read_text)
        yield running
    finally:
        running.process.send_signal(signal.SIGTERM)
        try:
            running.process.wait(PATIENCE)
        finally:
            running.process.kill()
