"""API keys: who may ask, from a file that may change at any time."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from cocoer_client.errors import InvalidInput
from cocoer_client.files import everyone_reads
from cocoer_client.web.log import log

MIN_KEY = 16
"""Characters of a key, at least."""
MAX_KEY = 512
RELOAD = 1.0
"""Seconds between two looks at the file."""
HASHED = "sha256:"
COMMENT = re.compile(r"(^|\s)#.*")
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Keys:
    """The keys of a file.

    Each line is ``NAME KEY`` or ``NAME sha256:HEX``, the SHA-256 of the key; ``#`` begins a comment. Several lines may
    have one name, so that a caller has two keys while one replaces the other.

    Args:
        path: the file.
        clock: seconds.

    Raises:
        InvalidInput: it can't be read, or is not what it should be; says the line, and nothing that is in it.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self._clock = path, clock
        self._seen = self._mark()
        self._digests = read_keys(path)
        self._looked = clock()
        warn_of_readers(path)

    def caller(self, key: str) -> str | None:
        """The name that a key stands for; None: nobody's. As long for each key, whatever it has in common with one."""
        self._reload()
        digest = hashlib.sha256(key[: MAX_KEY + 1].encode()).digest()
        found = None
        for name, known in self._digests:
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def _mark(self) -> object:
        """Differs once the file, or what a link leads to, is another or changed; None: it can't be seen."""
        try:
            about = os.stat(self.path)
        except OSError:
            return None
        return about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size

    def _reload(self) -> None:
        now = self._clock()
        if now - self._looked < RELOAD:
            return
        self._looked = now
        mark = self._mark()
        if mark == self._seen:
            return
        self._seen = mark
        try:
            self._digests = read_keys(self.path)
        except InvalidInput as error:
            log.error("%s; the keys from before are still used", error)
            return
        log.info("keys read again from %s: %d", self.path, len(self._digests))
        warn_of_readers(self.path)


def read_keys(path: Path) -> list[tuple[str, bytes]]:
    """Name and SHA-256 of each key; ``Keys`` says of what, and what is raised."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InvalidInput(f"can't read the API keys in {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"the API keys in {path} are not text") from None
    keys = []
    for number, line in enumerate(lines, 1):
        words = COMMENT.sub("", line).split()
        if words:
            keys.append(_key(words, f"line {number} of {path}"))
    if not keys:
        raise InvalidInput(f"there is no API key in {path}; cocoer-web --make-key NAME makes a line")
    return keys


def _key(words: list[str], place: str) -> tuple[str, bytes]:
    """Of a line's words; messages say nothing of them, which may be a key."""
    if len(words) != 2 or not valid_name(words[0]):
        raise InvalidInput(f"{place}: must be NAME KEY, the name of letters, digits and . _ - (64 at most)")
    name, key = words
    if key.startswith(HASHED):
        if not re.fullmatch(r"[0-9a-fA-F]{64}", key.removeprefix(HASHED)):
            raise InvalidInput(f"{place}: after {HASHED} must be 64 hexadecimal digits")
        return name, bytes.fromhex(key.removeprefix(HASHED))
    if not MIN_KEY <= len(key) <= MAX_KEY:
        raise InvalidInput(f"{place}: the key must have {MIN_KEY} to {MAX_KEY} characters")
    if not (key.isascii() and key.isprintable()):
        raise InvalidInput(f"{place}: the key must be of ASCII characters, which headers can hold")
    return name, hashlib.sha256(key.encode()).digest()


def valid_name(name: str) -> bool:
    """Whether it can stand in the file, in logs and in metrics."""
    return NAME.fullmatch(name) is not None


def make_key(name: str) -> tuple[str, str]:
    """A new key of 256 random bits, and its line in the file, from which nobody learns the key."""
    key = secrets.token_urlsafe(32)
    return key, f"{name} {HASHED}{hashlib.sha256(key.encode()).hexdigest()}"


def warn_of_readers(path: Path) -> None:
    """Where everybody on this machine may read it."""
    if everyone_reads(path):
        log.warning("%s can be read by every user of this machine; chmod o-r it, or keep sha256: lines only", path)
