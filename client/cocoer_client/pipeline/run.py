"""Sources in, outcomes out: several images on their way at once, results in order, failures kept to themselves."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cocoer_client.errors import CocoerError, InvalidInput, ModelChanged
from cocoer_client.inputs import BoxPair, ImageLike
from cocoer_client.key import require_same_model
from cocoer_client.optional import trackers
from cocoer_client.pipeline.following import Following
from cocoer_client.pipeline.history import Judge
from cocoer_client.pipeline.images import WORKERS, Videos, drawn, message_of, undrawn
from cocoer_client.pipeline.journal import Journal
from cocoer_client.pipeline.names import Names
from cocoer_client.pipeline.options import RunOptions
from cocoer_client.pipeline.patience import Patience
from cocoer_client.pipeline.stages import in_two_stages
from cocoer_client.pipeline.tasks import Outcome, Task
from cocoer_client.pipeline.totals import Totals
from cocoer_client.protocol import Options
from cocoer_client.records import Record
from cocoer_client.results import ModelInfo
from cocoer_client.signals import unbroken
from cocoer_client.sinks import Sink
from cocoer_client.sources import Source
from cocoer_client.video.frames import Video

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)
Step = Callable[[Outcome], Iterable[Outcome]]
"""Takes outcomes in order, between the answers and drawing, in the caller's thread; gives what goes on.

Tracking, for instance: it may change the records of a video's frames, hold frames back, and give them once it knows
more, at the latest with the frame that is the ``last`` or the outcome that ``breaks_off``.
"""


class Client(Protocol):
    """What a run needs of ``CocoerClient``; threads share it."""

    def model_info(self, **options: Unpack[Options]) -> ModelInfo:
        """The build that answers; checks the options."""

    def infer_raw(
        self, image: ImageLike, persons: Sequence[BoxPair] | None = None, **options: Unpack[Options]
    ) -> dict[str, Any]:
        """RESULT of an image."""


class Run:
    """Asks about sources, once: a run is over when its outcomes are.

    Args:
        client: the connection.
        options: what is asked and made.
        journal: what was done before, and gets what is done now; None: neither.
        sinks: get each record, once it is in the journal.
        step: between the answers and drawing; None: persons are followed through videos (``following``).
        expect: told how many frames a video will have, or None.
    """

    def __init__(
        self,
        client: Client,
        options: RunOptions,
        journal: Journal | None = None,
        sinks: Sequence[Sink] = (),
        step: Step | None = None,
        expect: Callable[[int | None], object] = lambda frames: None,
    ) -> None:
        self.client, self.options, self.journal, self.sinks = client, options, journal, sinks
        self.step: Step = step or Following(options)
        self.expect = expect
        self.model: Mapping[str, Any] = {}
        """RESULT's ``model``: that of all of the run's results."""
        self.begun = False
        self.stopped = threading.Event()
        self.patience = Patience(options.retries, options.patience, self.stopped, self._model_info)
        self.notes: list[str] = []
        """What is to be said at the end, that is no failure."""
        self.live: tuple[Source, Video] | None = None

    def begin(self, sources: Sequence[Source]) -> None:
        """Ask for the model, which checks the options too, and open the journal; ``outcomes`` does it if need be.

        Raises:
            InvalidRequest: an option that the server refuses.
            ServerUnavailable, RequestTimeout, ServerError: no server answers.
            OSError: the journal can't be written.
        """
        self.begun = True
        if not sources:
            return
        info = self.patience.ask(self._model_info)
        self.model = info.model_dump(mode="json")
        if self.journal is not None:
            self.journal.begin(Judge(self.model, self.options, sources))

    def _model_info(self) -> ModelInfo:
        return self.client.model_info(**self.options.thresholds)

    def finish(self, sources: Sequence[Source]) -> Totals:
        """Do all of it, and count; see ``outcomes``.

        Raises:
            ServerUnavailable, RequestTimeout, ServerError: the server was lost; what was done is in the journal and
                the sinks.
        """
        totals = Totals(options=self.options)
        for outcome in self.outcomes(sources):
            totals.count(outcome)
        if self.patience.lost is not None:
            raise self.patience.lost
        return totals

    def outcomes(self, sources: Sequence[Source]) -> Generator[Outcome, None, None]:
        """In the order of the sources, each written (image, video, journal, sinks) before it is handed out.

        Ends early where the server is lost (``patience.lost`` says so).

        Raises:
            ModelChanged: the server answers with another model than before; what it said is not kept.
            OSError: the journal, a sink or a video can't be written.
            CocoerError: see ``begin``.
        """
        if not self.begun:
            self.begin(sources)
        videos = Videos()
        inputs = [source.name for source in sources if source.is_file]
        given = self.journal.images if self.journal else {}
        names = Names(self.options.output_dir, inputs, given, self.options.image_format)
        tasks = self._tasks(sources, names)
        workers = self.options.concurrency, WORKERS
        stages = in_two_stages(tasks, self._ask, self.step, self._draw, *workers, self.stopped)
        try:
            for outcome in stages:
                if isinstance(outcome.error, ModelChanged):
                    raise outcome.error
                with unbroken():
                    videos.add(outcome)
                    self._write(outcome)
                yield outcome
        finally:
            stages.close()
            self._note_dropped()
            videos.end()

    def _write(self, outcome: Outcome) -> None:
        for record in outcome.records:
            if self.journal is not None and outcome.is_new:
                self.journal.add(record)
            for sink in self.sinks:
                sink.add(record)

    def _tasks(self, sources: Sequence[Source], names: Names) -> Iterator[Task]:
        for source in sources:
            if self.patience.lost is not None:
                return
            done = self.journal.done(source) if self.journal is not None else None
            if done is not None:
                yield Task(source, None, done=done)
                continue
            image = str(names.of(source)) if self.options.images else None
            if source.is_video:
                yield from self._frames(source, image)
            else:
                yield Task(source, image)

    def _frames(self, source: Source, image: str | None) -> Iterator[Task]:
        try:
            trackers()  # missing, it is missing from the first frame on
            video = Video(source, self.options.frame_step, self.options.max_frames)
            self.expect(video.expected())
            with self._counting_dropped(source, video):
                for frame in video.frames():
                    if self.patience.lost is not None:
                        return
                    yield Task(source, image, frame, video)
        except InvalidInput as error:
            yield Task(source, None, problem=error)

    @contextlib.contextmanager
    def _counting_dropped(self, source: Source, video: Video) -> Iterator[None]:
        self.live = (source, video) if video.is_live else None
        yield
        self._note_dropped()

    def _note_dropped(self) -> None:
        """Say how many frames of a live source there was no time for."""
        if self.live is not None and self.live[1].dropped:
            source, video = self.live
            what = "1 frame was" if video.dropped == 1 else f"{video.dropped} frames were"
            self.notes.append(f"{source.name}: {what} left out, since they came faster than they were answered")
        self.live = None

    def _ask(self, task: Task) -> Outcome:
        """One task's answer, in a thread of its own."""
        if task.done is not None:
            return Outcome(task, task.done)
        try:
            return self._recognise(task)
        except Exception as error:  # one image's, whatever it is; the others go on
            return self._failed(task, error)

    def _recognise(self, task: Task) -> Outcome:
        if task.problem is not None:
            raise task.problem
        options, data = self.options, b""
        if task.frame is None:
            data = self.patience.read(lambda: task.source.read(options.timeout))
        image = data if task.frame is None else task.frame.pixels
        raw = self.patience.ask(lambda: self.client.infer_raw(image, options.persons, **options.thresholds))
        require_same_model(self.model, raw)
        return Outcome(task, [{**self._facts(task, drawn=task.image is not None), **raw}], data=data)

    def _draw(self, outcome: Outcome) -> Outcome:
        """Its image, in a thread of its own."""
        try:
            return drawn(outcome, self.options)
        except Exception as error:  # the answer is there all the same
            if not isinstance(error, (CocoerError, OSError)):
                logger.exception("unexpected failure to draw %s", outcome.task.source.name)
            return undrawn(outcome, message_of(error))

    def _failed(self, task: Task, error: Exception) -> Outcome:
        if not isinstance(error, (CocoerError, OSError)):
            logger.error("unexpected failure of %s", task.source.name, exc_info=error)
        failure = {"kind": type(error).__name__, "message": message_of(error)}
        facts = self._facts(task, drawn=task.image is not None and task.frame is not None)
        return Outcome(task, [{**facts, "model": self.model, "error": failure}], error)

    def _facts(self, task: Task, drawn: bool) -> Record:
        """What a record says beside the result."""
        facts: Record = {"file": task.source.name}
        if task.frame is not None:
            facts |= {"frame": task.frame.index, "time_s": task.frame.time_s, "last": task.frame.last}
        if drawn:
            facts["picture"] = task.image
        if (source := task.source.fingerprint()) is not None:
            facts["source"] = source
        if self.options.thresholds:
            facts["options"] = self.options.thresholds
        return {**facts, "asked": self.options.asked(task.source.is_video, drawn)}
