"""Annotated images and videos of outcomes."""

from __future__ import annotations

from pathlib import Path

from cocoer_client.drawing.formats import save
from cocoer_client.drawing.images import draw, open_upright
from cocoer_client.errors import CocoerError
from cocoer_client.files import cant_write, naming
from cocoer_client.pipeline.options import RunOptions
from cocoer_client.pipeline.tasks import Outcome, Task
from cocoer_client.video.file import VideoFile
from cocoer_client.video.through_time import as_shown, track_numbers

WORKERS = 2
"""Threads that draw; Pillow lets others work while it scales, encodes and writes."""


def drawn(outcome: Outcome, options: RunOptions) -> Outcome:
    """The outcome with its annotated image saved, or that of its frame made; as it was, where none is wanted.

    Raises:
        InvalidInput: Pillow can't open the image.
        OSError: it can't be written.
    """
    task = outcome.task
    if task.image is None or not outcome.is_new:
        return outcome
    if outcome.error is not None:
        if task.frame is not None:
            outcome.frame_image = open_upright(task.frame.pixels)
        return outcome
    image = outcome.data if task.frame is None else task.frame.pixels
    record, numbers = outcome.records[0], None
    if task.frame is not None:
        record = as_shown(record)
        numbers = track_numbers(record["persons"])
    picture = draw(
        image,
        record,
        options.style,
        options.boxes_given,
        fixed_size=task.frame is not None,
        numbers=numbers,
        boxes=options.drawn_boxes,
    )
    if task.frame is None:
        with naming(Path(task.image)):
            save(picture, Path(task.image), options.quality)
    else:
        outcome.frame_image = picture
    return outcome


def undrawn(outcome: Outcome, reason: str) -> Outcome:
    """The outcome without an annotated image: a frame stays as it was, and an image's record says nothing of one."""
    outcome.not_drawn = reason
    if outcome.task.frame is not None:
        outcome.frame_image = open_upright(outcome.task.frame.pixels)
    else:
        outcome.records[0].pop("picture", None)
    return outcome


class Videos:
    """The annotated videos of a run, one after the other, frame by frame.

    One that can't be written costs itself alone: its frames' results say nothing of it, the first that fails why.
    """

    def __init__(self) -> None:
        self.open: VideoFile | None = None
        self.is_live = False
        self._failed: str | None = None
        """The file that can't be written, while its frames come."""

    def add(self, outcome: Outcome) -> None:
        """The next outcome: of a frame, of whatever there is between videos, or of a video that breaks off."""
        task = outcome.task
        if task.image != self._failed:
            self._failed = None
        try:
            if task.frame is None:
                self.finish()
            elif outcome.frame_image is not None and task.image is not None and self._failed is None:
                if self.open is None:
                    self._begin(task)
                if self.open is not None:
                    self.open.add(outcome.frame_image, task.frame.time_s)
                if task.frame.last:
                    self.finish()
        except (CocoerError, OSError) as error:
            self._abandon()
            self._failed, outcome.not_drawn = task.image, message_of(error)
        if self._failed is not None:
            outcome.records[0].pop("picture", None)

    def _begin(self, task: Task) -> None:
        video = task.video
        if video is not None and task.image is not None:
            self.is_live = video.is_live
            self.open = VideoFile(Path(task.image), video.step / video.rate, video.path, video.origin or 0.0)

    def finish(self) -> None:
        """The open one is complete, as far as its frames go."""
        if self.open is not None:
            self.open.finish()
        self.open = None

    def end(self) -> None:
        """The run is over. A film that it has not reached the end of is begun again by the next; a camera's is kept."""
        if self.is_live:
            self.finish()
        self._abandon()

    def _abandon(self) -> None:
        if self.open is not None:
            self.open.abandon()
        self.open = None


def message_of(error: Exception) -> str:
    """Reading has errors of its own; what remains of the system's is about writing."""
    return cant_write(error) if isinstance(error, OSError) else str(error)
