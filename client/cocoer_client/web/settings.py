"""What a gateway is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cocoer_client.command import Connection
from cocoer_client.connection import default_url


@dataclass(frozen=True)
class Settings:
    """Of one gateway.

    Args:
        url: host:port of Triton's gRPC endpoint.
        connection: how it is reached; its ``timeout`` is that of a request as a whole, once its body is there.
        retries: times to ask Triton again; None: as ``AsyncCocoerClient``.
        keys: file of API keys; None: none are asked for.
        origins: origins of other pages that browsers may let ask (CORS).
        hosts: names in the header ``Host`` that are answered, without ports; empty: any.
        root_path: what paths may begin with, behind a proxy.
        max_bytes: of an uploaded image.
        max_requests: that are being worked on at a time; the next gets 503.
        max_per_caller: of one API key; the next gets 429. None: no limit.
        max_upload_bytes: of all uploads that are in memory; what would exceed them gets 503.
        body_timeout: seconds in which a body has to be there.
        header_timeout: seconds in which a connection has to send the head of a request, and is kept idle.
        max_connections: at a time.
        draw_threads: images that are drawn at a time.

    Limits are those of each process.
    """

    url: str = field(default_factory=default_url)
    connection: Connection = field(default_factory=Connection)
    retries: int | None = None
    keys: Path | None = None
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    root_path: str = ""
    max_bytes: int = 32 << 20
    max_requests: int = 64
    max_per_caller: int | None = None
    max_upload_bytes: int = 512 << 20
    body_timeout: float = 30.0
    header_timeout: float = 10.0
    max_connections: int = 2048
    draw_threads: int = 2
