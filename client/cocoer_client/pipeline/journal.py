"""JSON Lines of all that was done: results survive a crash, and ``--resume`` knows what to skip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cocoer_client.records import Record
from cocoer_client.sources import Source


class Journal:
    """Appends a line per record, at once.

    Args:
        path: the file. Without ``resume`` an earlier one is kept beside it, as ``NAME.previous``.
        resume: keep what is there, and tell what of it counts as done.
        options: of this run's requests; results of others don't count.
        images: annotated images are wanted; results without don't count.
    """

    def __init__(self, path: Path, resume: bool, options: Mapping[str, object], images: bool) -> None:
        self.path, self.options, self.wants_images = path, dict(options), images
        self.places: dict[str, list[int]] = {}
        self.images: dict[str, str] = {}
        """File -> its annotated image."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if resume and path.exists():
            self._read()
        elif path.exists():
            path.replace(path.with_name(path.name + ".previous"))
        self.file = path.open("ab")

    def close(self) -> None:
        self.file.close()

    def add(self, record: Record) -> None:
        """Write a record; it is the operating system's when this returns."""
        self.file.write(json.dumps(record).encode() + b"\n")
        self.file.flush()

    def done(self, source: Source) -> list[Record] | None:
        """The results of an image, or of a video's frames, that need not be asked again; None: ask."""
        places = self.places.get(source.name)
        if not places:
            return None
        with self.path.open("rb") as file:
            records = [self._at(file, place) for place in places]
        image = records[-1].get("picture")
        current = source.fingerprint()
        if current is None or any(record.get("source") != current or "error" in record for record in records):
            return None
        if self.wants_images and (image is None or not Path(image).exists()):
            return None
        return records

    @staticmethod
    def _at(file: Any, place: int) -> Record:
        file.seek(place)
        record: Record = json.loads(file.readline())
        return record

    def _read(self) -> None:
        """Find each file's last result; a line that a crash cut short is removed."""
        whole = 0
        unfinished: dict[str, list[int]] = {}
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                place, whole = whole, whole + len(line)
                try:
                    record = json.loads(line)
                    name = record["file"]
                except (ValueError, KeyError, TypeError):
                    continue
                if record.get("options", {}) != self.options:
                    continue
                if record.get("picture"):
                    self.images[name] = record["picture"]
                if "frame" not in record:
                    if "error" not in record:
                        self.places[name] = [place]
                    continue
                if record["frame"] == 0:
                    unfinished[name] = []
                unfinished.setdefault(name, []).append(place)
                if record["last"]:
                    self.places[name] = unfinished.pop(name)
        with self.path.open("r+b") as file:
            file.truncate(whole)
