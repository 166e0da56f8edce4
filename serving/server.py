"""A Triton server for the length of a ``with`` block: free ports, ready before the block runs, always stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from serving.drain import EXIT_TIMEOUT
from serving.flags import PROBE_VARIABLE

PORT_FLAGS = ("--grpc-port", "--http-port", "--metrics-port")


class ServerFailed(RuntimeError):
    """The server ended, or was not ready in time; the message ends with its log."""


def free_ports(count: int) -> list[int]:
    """Ports nothing listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class TritonServer:
    """Runs ``tritonserver`` on a repository.

    Args:
        repository: what it serves.
        log: file for its output.
        timeout: seconds until it must be ready.
        arguments: more of Triton's flags.
        environment: variables to add to this process's. Nobody probes the server (``serving.probe``) unless they say
            so, for probes are work that is not the block's.
    """

    def __init__(
        self,
        repository: Path,
        log: Path,
        timeout: float = 300,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.repository, self.log, self.timeout = repository, log, timeout
        self.arguments, self.environment = arguments, {PROBE_VARIABLE: "0", **os.environ, **(environment or {})}
        self.grpc_port, self.http_port, self.metrics_port = free_ports(3)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The launcher's; it stays known after it has ended.

        Raises:
            RuntimeError: it has not been started.
        """
        if self._process is None:
            raise RuntimeError("the server has not been started")
        return self._process

    @property
    def url(self) -> str:
        """Address of the gRPC endpoint."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def __enter__(self) -> TritonServer:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        ports = [
            f"{flag}={port}" for flag, port in zip(PORT_FLAGS, (self.grpc_port, self.http_port, self.metrics_port))
        ]
        command = [
            sys.executable,
            "-m",
            "serving.launcher",
            f"--model-repository={self.repository}",
            *ports,
            *self.arguments,
        ]
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parent.parent,
                env=self.environment,
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
        """Stop the server, gracefully if it lets itself; its exit code."""
        if self._process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=EXIT_TIMEOUT + 30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerFailed(f"tritonserver ended with code {self.process.returncode}:\n{self.log_tail()}")
            if self.is_ready():
                return
            time.sleep(0.2)
        raise ServerFailed(f"tritonserver was not ready within {self.timeout:g} s:\n{self.log_tail()}")

    def is_ready(self) -> bool:
        """What a load balancer would see."""
        url = f"http://127.0.0.1:{self.http_port}/v2/health/ready"
        # A connection that is cut off raises what urllib does not translate.
        with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def log_tail(self, lines: int = 40) -> str:
        """The end of the server's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
