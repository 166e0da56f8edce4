"""An image or frame to ask about, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image

from cocoer_client.errors import CocoerError
from cocoer_client.records import Record
from cocoer_client.sources import Source
from cocoer_client.video.frames import Frame, Video


@dataclass(frozen=True)
class Task:
    """An image or frame to ask about; or what is known of it without asking."""

    source: Source
    image: str | None
    """Where its annotated image goes."""
    frame: Frame | None = None
    video: Video | None = None
    """What the frame is of."""
    done: list[Record] | None = None
    """Of an earlier run."""
    problem: CocoerError | None = None
    """Why there is nothing to ask; of a video after some of its frames, that the rest of it can't be read."""


@dataclass
class Outcome:
    """What became of a task. Steps between the answers and drawing may change its records."""

    task: Task
    records: list[Record]
    """One; of an earlier run, a video's are together."""
    error: Exception | None = None
    frame_image: Image.Image | None = None
    """The frame, annotated; as it was, if it failed."""
    data: bytes = field(default=b"", repr=False)
    """The image asked about."""
    not_drawn: str = ""
    """Why there is a result, and no annotated image of it."""

    @property
    def is_new(self) -> bool:
        """Whether this run asked."""
        return self.task.done is None

    @property
    def breaks_off(self) -> bool:
        """Whether a video ends here before its end: its earlier frames have results, and it does not count as done."""
        return self.task.problem is not None and self.task.source.is_video
