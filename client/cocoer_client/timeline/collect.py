"""A film's records, gathered by person and by time. Memory does not grow with the film's length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cocoer_client.inputs import Pixels
from cocoer_client.protocol import LEVELS
from cocoer_client.reading import warnings_of
from cocoer_client.records import Record, has_failed

Array = npt.NDArray[np.float64]
MAX_BINS = 400
"""Of a film's time; where it gets longer, two become one."""
FIRST_WIDTH = 1 / 60
"""Of a bin, seconds: every frame has its own."""
THUMBNAIL = 160
"""Side of a person's image, pixels."""


@dataclass
class Bin:
    """The frames of one person in one span of time."""

    count: int
    time: float
    """Sum of their times, seconds."""
    total: Array
    """FP64 [labels]: sums of the final probabilities."""
    low: Array
    high: Array
    order: Array
    """FP64 [3, 3]: how often each level (column) was the first, second, last (row) to be excluded."""

    def merge(self, other: Bin) -> None:
        self.count += other.count
        self.time += other.time
        self.total += other.total
        self.low = np.minimum(self.low, other.low)
        self.high = np.maximum(self.high, other.high)
        self.order += other.order


@dataclass
class Someone:
    """One track."""

    number: int
    first_s: float
    last_s: float = 0.0
    frames: int = 0
    bins: dict[int, Bin] = field(default_factory=dict)
    face: Image.Image | None = None
    """The largest that was seen."""
    face_size: float = 0.0


class Timeline:
    """Takes a film's frames in their order (``pipeline.following.Watcher``)."""

    def __init__(self) -> None:
        self.persons: dict[int, Someone] = {}
        self.labels: Sequence[str] = ()
        self.file = ""
        self.picture: str | None = None
        """The annotated film."""
        self.warnings: dict[str, str] = {}
        """Kind -> the first such warning."""
        self.model: Mapping[str, Any] = {}
        self.smooth: float | None = None
        self.width = FIRST_WIDTH
        self.end_s = 0.0
        self.frames = self.failed = 0

    def add(self, record: Record, pixels: Pixels | None) -> None:
        """Take the next frame.

        Args:
            record: of a frame, with its persons' tracks. Where scores were smoothed, those count.
            pixels: UINT8 [H, W, 3], RGB; None: it is not at hand.
        """
        self.file, self.picture = record["file"], record.get("picture", self.picture)
        self.end_s = max(self.end_s, record["time_s"])
        self.frames += 1
        if has_failed(record):
            self.failed += 1
            return
        self.labels, self.model = record["labels"], record["model"]
        self.smooth = record.get("asked", {}).get("smooth")
        for warning in warnings_of(record):
            self.warnings.setdefault(warning.partition(":")[0], warning)
        for person in record["persons"]:
            self._add_person(person, record["time_s"], pixels)
        while self.end_s / self.width >= MAX_BINS:
            self._halve()

    def _add_person(self, person: Mapping[str, Any], time_s: float, pixels: Pixels | None) -> None:
        number = person.get("track", person["id"])
        someone = self.persons.setdefault(number, Someone(number, time_s))
        someone.last_s = max(someone.last_s, time_s)
        someone.frames += 1
        scores = np.array(person.get("smoothed", person)["scores"]["pred"])
        names = [f"{level}-level" for level in LEVELS]
        order = np.zeros((3, 3))
        for place, name in enumerate(person["emo_process"]):
            order[place, names.index(name)] = 1
        new = Bin(1, time_s, scores.copy(), scores.copy(), scores.copy(), order)
        at = int(time_s / self.width)
        if at in someone.bins:
            someone.bins[at].merge(new)
        else:
            someone.bins[at] = new
        if pixels is not None:
            _look_at(someone, person["head_box"], pixels)

    def _halve(self) -> None:
        self.width *= 2
        for someone in self.persons.values():
            merged: dict[int, Bin] = {}
            for at, old in someone.bins.items():
                if at // 2 in merged:
                    merged[at // 2].merge(old)
                else:
                    merged[at // 2] = old
            someone.bins = merged


def _look_at(someone: Someone, head: Sequence[int], pixels: Pixels) -> None:
    """Keep the largest face, with some of what is around it; one that is hardly larger changes nothing."""
    x1, y1, x2, y2 = head
    size = min(x2 - x1, y2 - y1)
    if size < 1 or size <= 1.15 * someone.face_size:
        return
    reach = 0.75 * max(x2 - x1, y2 - y1)
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    left, top = max(0, round(middle_x - reach)), max(0, round(middle_y - reach))
    part = pixels[top : round(middle_y + reach), left : round(middle_x + reach)]
    side = min(part.shape[:2])
    face = Image.fromarray(np.ascontiguousarray(part[:side, :side]))
    someone.face = face.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    someone.face_size = size
