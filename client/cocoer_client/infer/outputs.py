"""Files of results: JSON, CSV and JSON Lines, written as results come; the last is what ``--resume`` reads."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from cocoer_client.files import temporary_name
from cocoer_client.infer.columns import column_names, rows_of

Record = dict[str, Any]
"""A result: ``file``; of a frame, ``frame``, ``time_s``, ``last``; ``picture`` (the annotated image or video),
``source``, ``options`` where there are any; then RESULT's keys, or ``error`` with ``kind`` and ``message``."""


class Stream:
    """A file, or standard output (``-``), that gets records one by one; a file has its name when it is complete."""

    def __init__(self, target: str) -> None:
        self.path = None if target == "-" else Path(target)
        self.file: IO[str] = sys.stdout
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.temporary = temporary_name(self.path)
            self.file = self.temporary.open("w", newline="")

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Interrupted or not: what there is, is whole.
        self.end()
        self.file.flush()
        if self.path is not None:
            self.file.close()
            self.temporary.replace(self.path)

    def add(self, record: Record) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Complete the text."""


class JsonFile(Stream):
    """An object for one image, an array for several; failures are left out."""

    def __init__(self, target: str, several: bool) -> None:
        super().__init__(target)
        self.several, self.count = several, 0

    def add(self, record: Record) -> None:
        if "error" in record:
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


class LinesFile(Stream):
    """JSON Lines on standard output: a record a line, failures too."""

    def add(self, record: Record) -> None:
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()


class CsvFile(Stream):
    """A row for each person, and one for each image without any or with an error; lists are joined by semicolons."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.writer: Any = None
        self.held: list[dict[str, Any]] = []

    def add(self, record: Record) -> None:
        rows = rows_of(record)
        if self.writer is None:
            if "error" in record:
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
