"""A table of results in a Parquet file, with the rows of ``cocoer-batch``. Needs the extra ``batch``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cocoer_client.closing import Closing
from cocoer_client.errors import InvalidInput
from cocoer_client.files import is_special, naming, temporary_name
from cocoer_client.optional import needs
from cocoer_client.records import Record, has_failed

GROUP = 1000
"""Rows that are written together."""


class ParquetFile(Closing):
    """A row for each image or frame, its persons in a list; failures have their message.

    Args:
        path: the file, which has its name when it is complete.

    Raises:
        InvalidInput: pyarrow is not installed, or it is a pipe or a device.
        OSError: it can't be written.
    """

    def __init__(self, path: str | Path) -> None:
        needs("Parquet", "pyarrow", extra="batch")
        self.path = Path(path)
        if is_special(self.path):
            raise InvalidInput(f"{self.path} is a pipe or a device; a table in Parquet needs a file")
        self.temporary = temporary_name(self.path)
        with naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.temporary.touch()
        self.rows: list[dict[str, Any]] = []
        self.labels: list[str] = []
        self.writer: Any = None

    def add(self, record: Record) -> None:
        """Take a record."""
        from cocoer_client.tables import failed_row, rows_of

        # Parquet's texts are UTF-8; names of files need not be.
        name = record["file"].encode(errors="surrogateescape").decode(errors="backslashreplace")
        place = {"path": name, "frame": record.get("frame"), "time_s": record.get("time_s")}
        if has_failed(record):
            self.rows.append(failed_row(place, record["error"]["kind"], record["error"]["message"]))
        else:
            self.labels = self.labels or list(record["labels"])
            self.rows += rows_of("images", place, record)
        # The labels are the server's; wait for its first answer.
        if len(self.rows) >= GROUP and self.labels:
            self._write()

    def close(self) -> None:
        """Write what is left, and give the file its name."""
        try:
            if self.rows or self.writer is None:
                self._write()
            with naming(self.path):
                self.writer.close()
                self.temporary.replace(self.path)
        finally:
            self.temporary.unlink(missing_ok=True)

    def _write(self) -> None:
        import pyarrow.parquet as pq

        from cocoer_client.tables import FRAME, PATH, schema_of, table_of

        table = table_of(self.rows, schema_of("images", self.labels, (*PATH, *FRAME)))
        with naming(self.path):
            if self.writer is None:
                self.writer = pq.ParquetWriter(self.temporary, table.schema)
            self.writer.write_table(table)
        self.rows = []
