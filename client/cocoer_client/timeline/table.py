"""The timeline as a tidy table: one row for each frame, person, level and label."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from cocoer_client.files import temporary_name
from cocoer_client.inputs import Pixels
from cocoer_client.records import Record, has_failed

COLUMNS = ("time", "person", "label", "probability", "level")
LEVEL_NAMES = {"pred": "final", "VI": "V-I", "head": "head", "body": "body", "ctx": "context"}
"""Key of a person's scores -> the level's name."""


class TimelineTable:
    """Written row by row (``pipeline.following.Watcher``); has its name when it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.temporary = temporary_name(path)
        self.file = self.temporary.open("w", newline="", encoding="utf-8")
        self.writer: Any = csv.writer(self.file, lineterminator="\n")
        self.writer.writerow(COLUMNS)
        self.frames = 0

    def add(self, record: Record, pixels: Pixels | None) -> None:
        """A frame's rows: ``time`` in seconds, ``person`` the track's number; smoothed scores where there are any."""
        self.frames += 1
        if has_failed(record):
            return
        for person in record["persons"]:
            scores = person.get("smoothed", person)["scores"]
            number = person.get("track", person["id"])
            for key, level in LEVEL_NAMES.items():
                for label, probability in zip(record["labels"], scores[key]):
                    self.writer.writerow((record["time_s"], number, label, round(probability, 6), level))

    def write(self) -> None:
        """It is complete; without a frame it is not there."""
        self.file.close()
        if self.frames:
            self.temporary.replace(self.path)
        else:
            self.temporary.unlink()
