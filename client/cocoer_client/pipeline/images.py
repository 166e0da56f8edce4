"""Annotated images and videos of outcomes."""

from __future__ import annotations

from pathlib import Path

from cocoer_client.drawing.images import draw, open_upright, save_png
from cocoer_client.files import naming, why_not_written
from cocoer_client.pipeline.options import RunOptions
from cocoer_client.pipeline.tasks import Outcome
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
    if task.frame is not None and outcome.error is not None:
        outcome.frame_image = open_upright(task.frame.pixels)
    elif task.frame is not None:
        record = as_shown(outcome.records[0])
        numbers = track_numbers(record["persons"])
        outcome.frame_image = draw(
            task.frame.pixels, record, options.style, options.boxes_given, fixed_size=True, numbers=numbers
        )
    elif outcome.error is None:
        image = draw(outcome.data, outcome.records[0], options.style, options.boxes_given)
        with naming(Path(task.image)):
            save_png(image, Path(task.image))
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
    """The annotated videos of a run, one after the other, frame by frame."""

    def __init__(self) -> None:
        self.open: VideoFile | None = None
        self.is_live = False

    def add(self, outcome: Outcome) -> None:
        """The next outcome: of a frame, of whatever there is between videos, or of a video that breaks off."""
        task, image = outcome.task, outcome.frame_image
        if task.frame is None:
            self.finish()
        elif image is not None and task.image is not None and task.video is not None:
            if self.open is None:
                video, self.is_live = task.video, task.video.is_live
                self.open = VideoFile(Path(task.image), video.step / video.rate, video.path, video.origin or 0.0)
            self.open.add(image, task.frame.time_s)
            if task.frame.last:
                self.finish()

    def finish(self) -> None:
        """The open one is complete, as far as its frames go."""
        if self.open is not None:
            self.open.finish()
        self.open = None

    def end(self) -> None:
        """The run is over. A film that it has not reached the end of is begun again by the next; a camera's is kept."""
        if self.is_live:
            self.finish()
        if self.open is not None:
            self.open.abandon()
        self.open = None


def message_of(error: Exception) -> str:
    """Reading has errors of its own; what remains of the system's is about writing."""
    return why_not_written(error) if isinstance(error, OSError) else str(error)
