"""Text of others (names of files, messages of servers) made fit for a terminal; errors, and numbers of things."""

from __future__ import annotations

import re
import sys

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, with those that turn the direction of writing, ends of lines, and bytes that are not UTF-8."""


def printable(text: str) -> str:
    r"""On one line, without what a terminal obeys or an encoder refuses; what is replaced is told by its number.

    >>> print(printable("a\x1b]0;title\x07\nb"), printable("\udcff.jpg"), printable("caf\xe9\u202e"))
    a\x1b]0;title\x07\x0ab \xff.jpg café\u202e
    """
    return _UNSAFE.sub(_escaped, text)


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(0, "person"), counted(1, "person"), counted(2, "person")
    ('no persons', '1 person', '2 persons')
    """
    return f"{f'{number:,}' if number else 'no'} {noun}{'' if number == 1 else 's'}"


def complain(message: str) -> None:
    """Say what is wrong, on one line."""
    print(f"error: {printable(message)}", file=sys.stderr)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte, as os.fsdecode keeps it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
