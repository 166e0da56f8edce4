"""Where images of people are sent, by whose key, and what must not be repeated of either."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from pathlib import Path

from cocoer_client.errors import InvalidInput
from cocoer_client.files import everyone_reads

KEY_VARIABLE = "OPENAI_API_KEY"
ADDRESS = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?(?:/[!-~]*)?", re.IGNORECASE | re.ASCII)
"""Of an interface. Narrower than what URLs may be, so that nobody who reads it can find another host in it."""
SHORTEST_KEY = 8
"""Characters: words that stand in for a key (``EMPTY``, ``none``) are not looked for in messages."""
MAX_MESSAGE = 300
"""Characters of a server's message."""
SECRETS = re.compile(r"\bsk-[\w*.-]{6,}|\bBearer\s+[^\s'\",;]+|[\w.-]*\*{3,}[\w*.-]*", re.IGNORECASE)
"""What looks like a key, also where the server has made stars of its middle."""
IMAGE_DATA = re.compile(r"(?:data:[\w/+.-]*;base64,)?[A-Za-z0-9+/\\]{64,}={0,2}")
USER = re.compile(r"(?<=://)[^/\s@]*@")

logger = logging.getLogger(__name__)


def host_of(base_url: str) -> str:
    """The host that images go to, in small letters, of IPv6 without brackets.

    Raises:
        InvalidInput: no address, or one with more than an address needs: a name and a password (command lines are read
            by others, and such an address would be in every record), a query, characters beyond ASCII in the host.

    >>> host_of("https://API.openai.com/v1"), host_of("http://[::1]:8000/v1")
    ('api.openai.com', '::1')
    """
    if "@" in base_url:
        raise InvalidInput("--base-url must not hold a name or a password (...@HOST); a key is read by --api-key-file")
    if "?" in base_url or "#" in base_url:
        raise InvalidInput(
            f"--base-url must end before ? and #, not {scrubbed(base_url)}; Azure's is "
            "https://NAME.openai.azure.com/openai/v1"
        )
    match = ADDRESS.fullmatch(base_url)
    host = match[2].lower().strip("[]") if match else ""
    if match is None or int(match[3] or 0) > 65535 or (":" in host and not _address(host)):
        hint = "" if base_url.isascii() else "; a host is written in ASCII (xn--...)"
        raise InvalidInput(f"--base-url must be http://HOST/... or https://HOST/..., not {scrubbed(base_url)}{hint}")
    return host


def is_loopback(host: str) -> bool:
    """Whether it is this machine: ``localhost``, 127.0.0.0/8 or ::1 as they are written usually.

    A name that leads to such an address today is not: it may lead elsewhere tomorrow. Nor are other ways to write one
    (``127.1``, ``2130706433``, ``localhost.``), about which libraries differ, nor 0.0.0.0.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("localhost.example.com")
    (True, True, True, False)
    """
    address = _address(host)
    if address is None:
        return host == "localhost"
    if isinstance(address, ipaddress.IPv6Address):
        return address == ipaddress.IPv6Address("::1")  # is_loopback's answer for ::ffff:127.0.0.1 depends on Python
    return address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def check_destination(base_url: str, allowed: str | None) -> None:
    """Raise ``InvalidInput`` unless images stay on this machine, or may go to that host; warn of http to another one.

    Args:
        base_url: of the server.
        allowed: what ``--send-images-to`` says: the host, and nothing else.
    """
    host = host_of(base_url)
    if is_loopback(host):
        return
    if (allowed or "").lower() not in (host, f"[{host}]" if ":" in host else host):
        raise InvalidInput(
            f"images of people would leave this machine, to {host}; if they may: --send-images-to {host}"
        )
    if base_url.lower().startswith("http:"):
        logger.warning("images of people and the key go to %s unencrypted: http, not https", host)


def read_key(path: Path | None) -> str:
    """The key: of a file, else of ``OPENAI_API_KEY``; empty: there is none.

    It is sent to whatever server is named, OpenAI's or not, as OpenAI's own library does.

    Raises:
        InvalidInput: the file can't be read, or holds not just a key; the message says nothing of what is in it.
    """
    if path is None:
        return _checked(os.environ.get(KEY_VARIABLE, "").strip(), f"${KEY_VARIABLE}")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InvalidInput(f"can't read the key in {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"the key in {path} is not text") from None
    if everyone_reads(path):
        logger.warning("%s can be read by every user of this machine; chmod go-r it", path)
    keys = [line.strip() for line in lines if line.strip()]
    if not keys:
        raise InvalidInput(f"there is no key in {path}")
    if len(keys) > 1:
        raise InvalidInput(f"{path} has {len(keys)} lines; it must hold one key and nothing else")
    return _checked(keys[0], str(path))


def _checked(key: str, place: str) -> str:
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise InvalidInput(f"what {place} holds can't be a key: it must be of ASCII characters without spaces")
    if key.startswith(f"{KEY_VARIABLE}="):
        raise InvalidInput(f"{place} must hold the key alone, without {KEY_VARIABLE}=")
    return key


def scrubbed(text: str, key: str = "", limit: int = MAX_MESSAGE) -> str:
    """A message on one line, without keys, passwords in addresses, and images.

    Args:
        text: somebody else's.
        key: one that must not be in it; what looks like one must not, either.
        limit: characters.

    >>> scrubbed("Incorrect API key provided: sk-abcd****wxyz.\\nSee https://me:pw@example.com", "other")
    'Incorrect API key provided: [key] See https://example.com'
    """
    if len(key) >= SHORTEST_KEY:
        text = text.replace(key, "[key]")
    text = IMAGE_DATA.sub("[data]", text)
    text = " ".join(USER.sub("", SECRETS.sub("[key]", text)).split())
    return text if len(text) <= limit else f"{text[:limit]}..."
