"""Where images of people are sent, and by whose key."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from urllib.parse import urlsplit

from cocoer_client.errors import InvalidInput

KEY_VARIABLE = "OPENAI_API_KEY"


def host_of(base_url: str) -> str:
    """The host that images go to; raises ``InvalidInput`` for what is no address."""
    try:
        parts = urlsplit(base_url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise InvalidInput(f"--base-url must be http://HOST/... or https://HOST/..., not {base_url}")
    return host


def is_loopback(host: str) -> bool:
    """Whether it is this machine.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("localhost.example.com")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_destination(base_url: str, allowed: str | None) -> None:
    """Raise ``InvalidInput`` unless images stay on this machine, or may go to that host.

    Args:
        base_url: of the server.
        allowed: what ``--send-images-to`` says.
    """
    host = host_of(base_url)
    if not is_loopback(host) and (allowed or "").lower() != host:
        raise InvalidInput(
            f"images of people would leave this machine, to {host}; if they may: --send-images-to {host}"
        )


def read_key(path: Path | None) -> str:
    """The key: of a file, else of ``OPENAI_API_KEY``; empty: there is none."""
    if path is None:
        return os.environ.get(KEY_VARIABLE, "").strip()
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"can't read the key in {path}: {type(error).__name__}") from None
