"""JSON Lines of all that was done: results survive a crash, and a run that resumes knows what to skip."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from cocoer_client.closing import Closing
from cocoer_client.errors import InvalidInput
from cocoer_client.files import locked, naming, temporary_name
from cocoer_client.pipeline.history import Entry, Judge
from cocoer_client.records import Record
from cocoer_client.sources import Source


class Journal(Closing):
    """Appends a line for each record, at once.

    Args:
        path: the file; its directory is made.
        resume: keep of an earlier one what counts, and tell it. Otherwise, and for the rest, an earlier file is kept
            beside it, as ``NAME.previous``.

    Raises:
        OSError: it can't be written.
    """

    def __init__(self, path: str | Path, resume: bool = False) -> None:
        self.path, self.resume = Path(path), resume
        self.images: dict[str, str] = {}
        """File -> its annotated image in the earlier run, whether that counts or not."""
        self.notes: list[str] = []
        """What does not count, and why, in sentences."""
        self._places: dict[str, list[int]] = {}
        self._file: IO[bytes] | None = None
        with naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path if self.path.exists() else self.path.parent, os.W_OK):
                raise PermissionError(13, "Permission denied", str(self.path))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def begin(self, judge: Judge) -> None:
        """Open it: read what there is, and keep what counts of it, one line for each image or frame.

        Raises:
            InvalidInput: another run writes it.
            OSError: it can't be written.
        """
        with naming(self.path):
            if self.path.is_file():  # a pipe, say, has no past
                self._take_over(judge)
            # Without a buffer: what can't be written is not written later.
            self._file = self.path.open("ab", buffering=0)
        locked(self._file)

    def _take_over(self, judge: Judge) -> None:
        with self.path.open("rb") as file:
            if not locked(file):
                raise InvalidInput(f"another run writes {self.path}; wait for it, or give this one another file")
            if self.resume:
                self._keep(self._read(judge), judge)
            else:
                self.path.replace(self._previous)

    @property
    def _previous(self) -> Path:
        return self.path.with_name(self.path.name + ".previous")

    def add(self, record: Record) -> None:
        """Write a record; it is the operating system's when this returns."""
        if self._file is None:
            raise ValueError("the journal has not begun")
        left = memoryview(json.dumps(record).encode() + b"\n")
        with naming(self.path):
            while left:
                left = left[self._file.write(left) :]

    def done(self, source: Source) -> list[Record] | None:
        """The results of an image, or of a video's frames, that need not be asked again; None: ask."""
        places = self._places.get(source.name)
        if places is None:
            return None
        with self.path.open("rb") as file:
            return [_record_at(file, place) for place in places]

    def _read(self, judge: Judge) -> dict[str, Entry]:
        """Each file's last entry; a line that a crash cut short is none, nor is one of another program."""
        entries: dict[str, Entry] = {}
        place = 0
        with self.path.open("rb") as file:
            for line in file:
                here, place = place, place + len(line)
                record = _parsed(line)
                if record is None:
                    continue
                name = record["file"]
                if name not in entries or not entries[name].takes(here, record):
                    entries[name] = Entry(here, record, judge)
                if (picture := entries[name].picture) is not None:
                    self.images[name] = picture
        return entries

    def _keep(self, entries: Mapping[str, Entry], judge: Judge) -> None:
        """Write the file anew with what counts, and take notes of the rest."""
        objections: Counter[str] = Counter()
        kept: list[tuple[int, str]] = []
        for name, entry in entries.items():
            objection = entry.verdict()
            if objection is None:
                kept += [(place, name) for place in entry.places]
            elif name in judge.sources:
                objections[objection] += len(entry.places)
        self.notes = [
            f"{count} {'result is' if count == 1 else 'results are'} {objection}: done again"
            for objection, count in objections.items()
        ]
        temporary = temporary_name(self.path)
        try:
            with self.path.open("rb") as before, temporary.open("wb") as after:
                for place, name in sorted(kept):
                    self._places.setdefault(name, []).append(after.tell())
                    before.seek(place)
                    after.write(before.readline())
            if temporary.stat().st_size != self.path.stat().st_size:
                _copy(self.path, self._previous)
                temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("file"), str) else None


def _record_at(file: IO[bytes], place: int) -> Record:
    file.seek(place)
    record: Record = json.loads(file.readline())
    return record


def _copy(source: Path, target: Path) -> None:
    """A second name for a file, in the place of what had it; a copy where the file system has no links."""
    temporary: Any = temporary_name(target)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
