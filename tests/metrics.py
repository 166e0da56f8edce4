"""What a running server tells of itself."""

from __future__ import annotations

import contextlib
import re
import time
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from serving.drain import PAUSE, QUIET, Drain
from serving.server import RunningServer

SAMPLE_LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""(name, labels) -> value, with the names that Prometheus sees."""


def scrape(server: RunningServer) -> Series:
    """All of it, now."""
    for _ in range(50):  # Triton is ready before its metrics are
        with (
            contextlib.suppress(urllib.error.URLError),
            urllib.request.urlopen(server.metrics_url, timeout=10) as answer,
        ):
            text = answer.read().decode()
            break
        time.sleep(0.1)
    return series_in(text)


def series_in(text: str) -> Series:
    """What a metrics endpoint's answer says."""
    assert list(text_string_to_metric_families(text)), "Prometheus's own parser takes it"
    return {
        (line[1], tuple(sorted(LABEL.findall(line[2] or "")))): float(line[3]) for line in SAMPLE_LINE.finditer(text)
    }


def key(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


def settled(server: RunningServer, patience: float = 240) -> Series:
    """All of it, once nothing is queued or runs any more.

    A stage that has begun is finished even if its request has been cancelled: with a crowd, on a slow machine, that
    takes a minute.
    """
    drain = Drain(None, (server.host, server.metrics_port))
    deadline, quiet = time.monotonic() + patience, 0
    while quiet < QUIET:
        quiet = quiet + 1 if drain.running() == 0 else 0
        assert quiet or time.monotonic() < deadline, "the server does not come to rest"
        time.sleep(PAUSE)
    return scrape(server)
