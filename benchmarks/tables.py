"""Tables of the reports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tabulate import tabulate


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in GitHub's Markdown; cells are shown as they are."""
    return tabulate(list(rows), header, tablefmt="github", disable_numparse=True)


SHOWN = 400
"""Characters of a text of others."""


def plain(text: str) -> str:
    """Text of others on one line, short, without what Markdown would obey.

    >>> print(plain("*no*\\n<b>"))
    \\*no\\* \\<b\\>
    """
    line = " ".join(text.split())
    short = line if len(line) <= SHOWN else f"{line[:SHOWN]}..."
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", short)
