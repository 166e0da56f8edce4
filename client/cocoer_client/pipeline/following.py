"""Between the answers and drawing: persons are followed through each video, and a timeline gets what there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from cocoer_client.inputs import Pixels
from cocoer_client.pipeline.options import RunOptions
from cocoer_client.pipeline.tasks import Outcome
from cocoer_client.records import Record
from cocoer_client.video.frames import Video
from cocoer_client.video.through_time import ThroughTime


class Watcher(Protocol):
    """What wants to see the frames, too."""

    def add(self, record: Record, pixels: Pixels | None) -> None:
        """Take a frame's record; there are no pixels of what was done before."""


class Following:
    """A step of a run: gives each frame's record its shot, and its persons their tracks and smoothed scores.

    Args:
        options: of the run.
        watchers: get the records of frames.
    """

    def __init__(self, options: RunOptions, watchers: Sequence[Watcher] = ()) -> None:
        self.options, self.watchers = options, watchers
        self.video: Video | None = None
        self.through: ThroughTime | None = None

    def __call__(self, outcome: Outcome) -> Iterable[Outcome]:
        task = outcome.task
        pixels = None
        if task.frame is not None and task.video is not None:
            if self.through is None or task.video is not self.video:
                rate = task.video.rate / task.video.step
                self.video, self.through = task.video, ThroughTime(rate, self.options.smooth, self.options.thresholds)
            pixels = task.frame.pixels
            self.through.add(outcome.records[0], pixels)
        for record in outcome.records:
            if "time_s" in record:
                for watcher in self.watchers:
                    watcher.add(record, pixels)
        return (outcome,)
