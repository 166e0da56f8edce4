"""The gateway's metrics, for Prometheus: of one process, or of all that share a port."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request
from starlette.responses import Response

from cocoer_client.web.admission import Admission
from cocoer_client.web.log import Line
from cocoer_client.web.protocol import Connections

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus_client shares figures between processes; read when it is imported."""
ASKING = ("/v1/recognise", "/v1/annotate", "/v1/explain", "/v1/model")
ENDPOINTS = (*ASKING, "/", "/page", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics")
OTHER = "other"
"""Any other path: labels are of a fixed number."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
disable_created_metrics()  # type: ignore[no-untyped-call]


def endpoint_of(path: str) -> str:
    """The label of a path.

    >>> endpoint_of("/v1/recognise"), endpoint_of("/page/app.js"), endpoint_of("/etc/passwd")
    ('/v1/recognise', '/page', 'other')
    """
    if path in ENDPOINTS:
        return path
    top = "/" + path.split("/")[1] if path.startswith("/") else path
    return top if top in ("/page", "/docs") else OTHER


class Metrics:
    """Figures of one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "cocoer_web_requests", "Requests answered", ("endpoint", "status", "reason"), registry=registry
        )
        self.seconds = Histogram(
            "cocoer_web_request_seconds",
            "From a request's head to the end of its response",
            ("endpoint",),
            buckets=BUCKETS,
            registry=registry,
        )
        self.parts = Histogram(
            "cocoer_web_part_seconds",
            "Of answered requests: waiting for Triton (triton), drawing (draw)",
            ("endpoint", "part"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.received = Counter("cocoer_web_received_bytes", "Of bodies", ("endpoint",), registry=registry)
        self.sent = Counter("cocoer_web_sent_bytes", "Of responses' bodies", ("endpoint",), registry=registry)
        self.in_flight = self._gauge("cocoer_web_requests_in_flight", "Requests that are not answered yet")
        self.working = self._gauge("cocoer_web_requests_working", "Requests whose body is there, being worked on")
        self.uploads = self._gauge("cocoer_web_upload_bytes", "Of all bodies in memory")
        self.connections = self._gauge("cocoer_web_connections", "Connections")
        self.cut = Counter(
            "cocoer_web_connections_cut",
            "Connections closed: there were too many (full), nothing came in time (idle), or no HTTP (malformed)",
            ("why",),
            registry=registry,
        )
        self._cut = dict.fromkeys(("full", "idle", "malformed"), 0)
        for why in self._cut:
            self.cut.labels(why)
        build = Gauge(
            "cocoer_web_build_info",
            "The gateway's version",
            ("version",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        build.labels(_version()).set(1)
        for endpoint in ASKING:  # so that rates have a beginning
            self.requests.labels(endpoint, "200", "")
            self.seconds.labels(endpoint)
            self.received.labels(endpoint)
            self.sent.labels(endpoint)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry, multiprocess_mode="livesum")

    def count(self, line: Line, endpoint: str, seconds: float, parts: Mapping[str, float]) -> None:
        """A request that is over; ``parts`` are the seconds of what it consisted of."""
        self.requests.labels(endpoint, str(line.status), line.reason).inc()
        self.seconds.labels(endpoint).observe(seconds)
        self.received.labels(endpoint).inc(line.bytes_in)
        self.sent.labels(endpoint).inc(line.bytes_out)
        for part, length in parts.items():
            self.parts.labels(endpoint, part).observe(length)

    def sample(self, connections: Connections, admission: Admission) -> None:
        """What is looked at from time to time, rather than counted with each request."""
        self.connections.set(connections.open)
        self.working.set(admission.working)
        self.uploads.set(admission.upload_bytes)
        now = {"full": connections.refused, "idle": connections.timed_out, "malformed": connections.malformed}
        for why, total in now.items():
            self.cut.labels(why).inc(total - self._cut[why])
        self._cut = now

    def text(self) -> bytes:
        """What Prometheus reads; of all processes where they share."""
        registry = self.registry
        if os.environ.get(SHARED):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _version() -> str:
    try:
        return version("cocoer-client")
    except PackageNotFoundError:  # a checkout that is not installed
        return "unknown"


def metrics(request: Request) -> Response:
    """The endpoint ``/metrics``."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)
