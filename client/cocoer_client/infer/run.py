"""Sources in, records out: several images on their way at once, results in order, failures kept to themselves."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from cocoer_client.client import CocoerClient
from cocoer_client.drawing.images import draw, open_upright, save_png
from cocoer_client.errors import CocoerError, InvalidInput
from cocoer_client.infer.journal import Journal
from cocoer_client.infer.names import Names
from cocoer_client.infer.outputs import Record
from cocoer_client.inputs import BoxPair
from cocoer_client.ordered import in_order
from cocoer_client.protocol import Thresholds
from cocoer_client.sources import Source
from cocoer_client.video.file import VideoFile
from cocoer_client.video.frames import Frame, Video

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """An image or frame to ask about; or what is known of it without asking."""

    source: Source
    image: str | None
    """Where its annotated image goes."""
    frame: Frame | None = None
    rate: float = 0.0
    """Frames per second of the annotated video."""
    done: list[Record] | None = None
    problem: InvalidInput | None = None


@dataclass
class Outcome:
    """What became of a task."""

    task: Task
    records: list[Record]
    error: Exception | None = None
    frame_image: Image.Image | None = None
    """Annotated; as it was, if it failed."""
    data: bytes = field(default=b"", repr=False)
    """The image asked about."""
    not_drawn: str = ""
    """Why there is a result, and no annotated image of it."""

    @property
    def is_new(self) -> bool:
        return self.task.done is None


class Run:
    """Asks about sources.

    Args:
        client: the connection.
        args: the command line.
        persons: boxes of the one image, or None.
        options: thresholds that were given.
        journal: what was done before, and gets what is done now; None: neither.
        names: of the annotated images.
        expect: told how many more frames a video will have.
    """

    def __init__(
        self,
        client: CocoerClient,
        args: argparse.Namespace,
        persons: Sequence[BoxPair] | None,
        options: Thresholds,
        journal: Journal | None,
        names: Names,
        expect: Any = lambda frames: None,
    ) -> None:
        self.client, self.args, self.persons, self.options = client, args, persons, options
        self.journal, self.names, self.expect = journal, names, expect
        self.video: VideoFile | None = None

    def outcomes(self, sources: Sequence[Source]) -> Generator[Outcome, None, None]:
        """In the order of the sources, each written (image, video, journal) before it is handed out."""
        try:
            for outcome in in_order(self._ask, self._tasks(sources), self.args.concurrency):
                if outcome.frame_image is not None and outcome.task.image is not None:
                    self._add_frame(outcome)
                if self.journal is not None and outcome.is_new:
                    for record in outcome.records:
                        self.journal.add(record)
                yield outcome
        finally:
            if self.video is not None:
                self.video.abandon()

    def _tasks(self, sources: Sequence[Source]) -> Iterator[Task]:
        for source in sources:
            done = self.journal.done(source) if self.journal is not None else None
            if done is not None:
                yield Task(source, None, done=done)
                continue
            image = None if self.args.no_images else str(self.names.of(source))
            if source.is_video:
                yield from self._frames(source, image)
            else:
                yield Task(source, image)

    def _frames(self, source: Source, image: str | None) -> Iterator[Task]:
        try:
            video = Video(source, self.args.frame_step, self.args.max_frames)
            self.expect(video.expected())
            for frame in video.frames():
                yield Task(source, image, frame, video.rate / video.step)
        except InvalidInput as error:
            yield Task(source, None, problem=error)

    def _ask(self, task: Task) -> Outcome:
        """One task, in a thread of its own."""
        if task.done is not None:
            return Outcome(task, task.done)
        try:
            return self._recognise(task)
        except Exception as error:  # one image's, whatever it is; the others go on
            if not isinstance(error, (CocoerError, OSError)):
                logger.exception("unexpected failure of %s", task.source.name)
            failure = {"kind": type(error).__name__, "message": _message(error)}
            plain = None if task.frame is None else open_upright(task.frame.pixels)
            facts = self._facts(task if task.frame is not None else replace(task, image=None))
            return Outcome(task, [{**facts, "error": failure}], error, plain)

    def _recognise(self, task: Task) -> Outcome:
        if task.problem is not None:
            raise task.problem
        if task.frame is not None:
            return self._recognise_frame(task, task.frame)
        data = task.source.read(self.args.timeout)
        raw = self.client.infer_raw(data, self.persons, **self.options)
        if task.image is not None:
            try:
                save_png(draw(data, raw, self.args.style, self.persons is not None), Path(task.image))
            except (CocoerError, OSError) as error:  # the answer is there all the same
                facts = self._facts(replace(task, image=None))
                return Outcome(task, [{**facts, **raw}], data=data, not_drawn=_message(error))
        return Outcome(task, [{**self._facts(task), **raw}], data=data)

    def _recognise_frame(self, task: Task, frame: Frame) -> Outcome:
        raw = self.client.infer_raw(frame.pixels, self.persons, **self.options)
        image = None
        if task.image is not None:
            image = draw(frame.pixels, raw, self.args.style, self.persons is not None, fixed_size=True)
        return Outcome(task, [{**self._facts(task), **raw}], frame_image=image)

    def _facts(self, task: Task) -> Record:
        """What a record says beside the result."""
        facts: Record = {"file": task.source.name}
        if task.frame is not None:
            facts |= {"frame": task.frame.index, "time_s": task.frame.time_s, "last": task.frame.last}
        if task.image is not None:
            facts["picture"] = task.image
        if (source := task.source.fingerprint()) is not None:
            facts["source"] = source
        return {**facts, "options": self.options} if self.options else facts

    def _add_frame(self, outcome: Outcome) -> None:
        task, image = outcome.task, outcome.frame_image
        assert task.frame is not None
        assert task.image is not None
        assert image is not None
        if self.video is None:
            self.video = VideoFile(Path(task.image), 1 / task.rate)
        self.video.add(image, task.frame.time_s)
        if task.frame.last:
            self.video.finish()
            self.video = None


def _message(error: Exception) -> str:
    """Reading has errors of its own; what remains of the system's is about writing."""
    return f"can't write {error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
