"""JSON, JSON Lines and CSV, written as results come, to a file or to standard output."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from cocoer_client.closing import Closing
from cocoer_client.columns import column_names, rows_of
from cocoer_client.files import NamedText, is_special, naming, temporary_name
from cocoer_client.records import Record, has_failed


class TextFile(Closing):
    """A file, or standard output (``-``), that gets records one by one; a file has its name when it is complete.

    Args:
        target: its path. Its directory is made.

    Raises:
        OSError: it can't be written.
    """

    def __init__(self, target: str | Path) -> None:
        self.path = None if str(target) == "-" else Path(target)
        self.file: IO[str] | NamedText = sys.stdout
        self.temporary: Path | None = None
        if self.path is None:
            return
        with naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not is_special(self.path):
                self.temporary = temporary_name(self.path)
            # Names of files need not be UTF-8.
            opened = (self.temporary or self.path).open("w", newline="", encoding="utf-8", errors="backslashreplace")
        self.file = NamedText(opened, self.path)

    def close(self) -> None:
        """Complete the text, and give the file its name."""
        if self.path is None:
            self.end()
            self.file.flush()
            return
        try:
            try:
                self.end()
            finally:
                self.file.close()
            if self.temporary is not None:
                self.temporary.replace(self.path)
        finally:
            if self.temporary is not None:
                self.temporary.unlink(missing_ok=True)

    def add(self, record: Record) -> None:
        """Take a record."""
        raise NotImplementedError

    def end(self) -> None:
        """Complete the text."""


class JsonFile(TextFile):
    """An object for one image, an array for several; failures are left out."""

    def __init__(self, target: str | Path, several: bool = True) -> None:
        super().__init__(target)
        self.several, self.count = several, 0

    def add(self, record: Record) -> None:
        if has_failed(record):
            return
        if self.several:
            self.file.write("[\n" if self.count == 0 else ",\n")
        self.file.write(json.dumps(record, indent=2))
        self.count += 1

    def end(self) -> None:
        if self.several:
            self.file.write("[]\n" if self.count == 0 else "\n]\n")
        elif self.count:
            self.file.write("\n")


class JsonLinesFile(TextFile):
    """JSON Lines: a record a line, failures too; each is passed on at once."""

    def add(self, record: Record) -> None:
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()


class CsvFile(TextFile):
    """A row for each person, and one for each image without any or with an error; lists are joined by semicolons."""

    def __init__(self, target: str | Path) -> None:
        super().__init__(target)
        self.writer: Any = None
        self.held: list[dict[str, Any]] = []

    def add(self, record: Record) -> None:
        rows = rows_of(record)
        if self.writer is None:
            if has_failed(record):
                # The labels are the server's; wait for its first answer.
                self.held += rows
                return
            self._start(record["labels"])
        self.writer.writerows(rows)

    def _start(self, labels: Sequence[str]) -> None:
        self.writer = csv.DictWriter(self.file, column_names(labels), restval="", lineterminator="\n")
        self.writer.writeheader()
        self.writer.writerows(self.held)

    def end(self) -> None:
        if self.writer is None:
            self._start([])
