"""What a sink is."""

from __future__ import annotations

from typing import Protocol

from cocoer_client.records import Record


class Sink(Protocol):
    """Gets records one by one."""

    def add(self, record: Record) -> None:
        """Take a record (``cocoer_client.records``): a result or a failure; raises OSError where it can't be kept."""

    def close(self) -> None:
        """Complete what was written; there may be less than was meant, and nothing is left half."""
