"""``--timeline FILE``: what its suffix says."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from cocoer_client.errors import InvalidInput
from cocoer_client.inputs import Pixels
from cocoer_client.records import Record
from cocoer_client.timeline.collect import Timeline
from cocoer_client.timeline.image import write_image
from cocoer_client.timeline.page import write_page
from cocoer_client.timeline.table import TimelineTable

SUFFIXES = (".html", ".png", ".csv")


class TimelineWriter(Protocol):
    """Gets a film's frames, then writes."""

    def add(self, record: Record, pixels: Pixels | None) -> None:
        """Take a frame's record; there are no pixels of what was done before."""

    def write(self) -> None:
        """Write what there is, if there is any; raises OSError where that can't be."""


class _Drawn:
    """A page or an image, made at the end."""

    def __init__(self, path: Path) -> None:
        self.path, self.timeline = path, Timeline()

    def add(self, record: Record, pixels: Pixels | None) -> None:
        self.timeline.add(record, pixels)

    def write(self) -> None:
        if self.timeline.frames:
            self._write()

    def _write(self) -> None:
        (write_page if self.path.suffix.lower() == ".html" else write_image)(self.timeline, self.path)


def writer_of(path: Path) -> TimelineWriter:
    """The one for a file; raises InvalidInput where its suffix is none of ``SUFFIXES``."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidInput(f"--timeline writes {', '.join(SUFFIXES)} files, not {path.name}")
    return TimelineTable(path) if suffix == ".csv" else _Drawn(path)
