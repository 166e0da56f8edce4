"""Tables of the reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tabulate import tabulate


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in GitHub's Markdown; cells are shown as they are."""
    return tabulate(list(rows), header, tablefmt="github", disable_numparse=True)
