"""Names of files and messages of servers on a terminal and in tables, where some characters would act."""

from __future__ import annotations

import unicodedata

ACTING = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of control characters (escape sequences begin with one), bytes that are not UTF-8, and ends of lines."""
TURNING = set("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What changes the direction of writing, so that a name reads as another."""


def printable(text: str) -> str:
    r"""The text with escapes instead of what would act.

    >>> print(printable("a\r\x1b[2Jb\udcff.jpg"), printable("Zoë.jpg"))
    a\x0d\x1b[2Jb\udcff.jpg Zoë.jpg
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in ACTING and character not in TURNING:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
