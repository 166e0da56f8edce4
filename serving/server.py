"""A Triton server for the length of a ``with`` block: free ports, ready before the block runs, always stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from serving.background import Background
from serving.drain import EXIT_TIMEOUT
from serving.flags import PROBE_VARIABLE

PORT_FLAGS = ("--grpc-port", "--http-port", "--metrics-port")


def free_ports(count: int) -> list[int]:
    """Ports nothing listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass(eq=False)
class RunningServer:
    """Where a server is, whoever has started it."""

    host: str
    http_port: int
    grpc_port: int
    metrics_port: int

    @property
    def url(self) -> str:
        """Address of the gRPC endpoint."""
        return f"{self.host}:{self.grpc_port}"

    @property
    def http_url(self) -> str:
        return f"http://{self.host}:{self.http_port}"

    @property
    def metrics_url(self) -> str:
        return f"http://{self.host}:{self.metrics_port}/metrics"

    def is_ready(self) -> bool:
        """What a load balancer would see."""
        url = f"{self.http_url}/v2/health/ready"
        # A connection that is cut off raises what urllib does not translate.
        with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def log_tail(self, lines: int = 40) -> str:
        """The end of the server's log; here, that it is elsewhere."""
        return f"the log is with the server at {self.host}:{self.http_port}"


class TritonServer(RunningServer, Background):
    """Runs ``tritonserver`` on a repository.

    Args:
        repository: what it serves.
        log: file for its output.
        timeout: seconds until it must be ready.
        arguments: more of Triton's flags.
        environment: variables to add to this process's. Nobody probes the server (``serving.probe``) unless they say
            so, for probes are work that is not the block's.
        own_session: whether Ctrl-C in the terminal is this process's alone, which then stops the server when it likes.
    """

    backends: ClassVar[Path | None] = None
    """Triton's backend directory for every server; None: the command's own choice."""
    name: ClassVar[str] = "tritonserver"
    exit_timeout: ClassVar[float] = EXIT_TIMEOUT + 30

    def __init__(
        self,
        repository: Path,
        log: Path,
        timeout: float = 300,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        own_session: bool = False,
    ) -> None:
        self.repository, self.arguments = repository, arguments
        grpc_port, http_port, metrics_port = free_ports(3)
        RunningServer.__init__(self, "127.0.0.1", http_port, grpc_port, metrics_port)
        variables = {PROBE_VARIABLE: "0", **os.environ, **(environment or {})}
        project = Path(__file__).parent.parent
        Background.__init__(self, self._command(), log, timeout, variables, own_session, project)

    log_tail = Background.log_tail

    def _command(self) -> list[str]:
        ports = [
            f"{flag}={port}" for flag, port in zip(PORT_FLAGS, (self.grpc_port, self.http_port, self.metrics_port))
        ]
        return [
            sys.executable,
            "-m",
            "serving.launcher",
            f"--model-repository={self.repository}",
            *ports,
            *([f"--backend-directory={self.backends}"] if self.backends else []),
            *self.arguments,
        ]
