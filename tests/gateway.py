"""A ``cocoer-web`` for the length of a ``with`` block: a process of its own, on a free port."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from serving.gateway import Gateway as Served
from serving.server import free_ports
from tests.waiting import PATIENCE

PATIENT = ("--timeout", "120", "--body-timeout", "120", "--header-timeout", "120")
"""A machine that has much else to do makes requests slow, not wrong."""


class Gateway(Served):
    """A gateway that answers, whether there is a server behind it or not."""

    exit_timeout: ClassVar[float] = PATIENCE
    readiness: ClassVar[str] = "/healthz"


def gateway(triton: str, log: Path, *arguments: str) -> Gateway:
    """One for a ``with`` block.

    Args:
        triton: host:port of the server behind it.
        log: file of its output.
        arguments: more of ``cocoer-web``'s options, which go before ``PATIENT``.
    """
    (port,) = free_ports(1)
    return Gateway(triton, port, log, [*PATIENT, *arguments], PATIENCE)
