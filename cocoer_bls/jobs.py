"""One image on its way through the pipeline, and how steps treat several: a failure stays with its image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from cocoer_bls.boxes import Box, Given, Person, with_heads
from cocoer_bls.decoding import Opened
from cocoer_bls.errors import Cancelled, alone
from cocoer_bls.inputs import Crops, Tensors
from cocoer_bls.options import Options


@dataclass(eq=False)
class Job:
    """One image on its way."""

    data: bytes
    options: Options
    boxes: np.ndarray | None = None
    """FP32 [N, 8], PERSONS of the request; None: detect."""
    cancelled: Callable[[], bool] = lambda: False
    """Whether the caller has gone; asked between stages."""
    opened: Opened | None = None
    """The file's header, until the image is dropped."""
    image: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 3), dtype=np.uint8))
    """From its decoding until it is dropped; with ``fast_decode`` maybe smaller than it is."""
    factor: int = 1
    """How many times smaller."""
    damage: str | None = None
    """What is wrong with the file, where it was accepted all the same."""
    given: list[Given] = field(default_factory=list)
    """``boxes``, checked."""
    persons: dict[int, Person] = field(default_factory=dict)
    """By number, from 1; of those given, row + 1."""
    crops: Crops | None = None
    """What recognition sees of ``persons``; None: nobody is there, or they are too many to be cut out at once."""
    rows: list[Tensors] = field(default_factory=list)
    """A row of each output per person."""
    error: Exception | None = None
    timing: dict[str, float] = field(default_factory=dict)
    """Milliseconds of each stage, on the clock; of a shared call, all of it."""

    whole_size: tuple[int, int] | None = None
    """Width and height of the upright image, where ``image`` does not say so."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright image, also where it was decoded smaller, or is gone."""
        return self.whole_size or (self.image.shape[1], self.image.shape[0])

    @property
    def is_recognised(self) -> bool:
        """Whether each person has its row."""
        return len(self.rows) == len(self.persons)

    def drop(self) -> None:
        """Give the memory of the image back."""
        self.drop_pixels()
        self.opened = None

    def drop_pixels(self) -> None:
        """The same, where it will be decoded once more."""
        self.whole_size = self.size
        self.image = self.image[:0, :0].copy()

    @property
    def to_be_detected(self) -> bool:
        """Whether persons, or heads of persons, have to be found."""
        return self.boxes is None or any(person.head is None for person in self.given)

    def found(self, persons: Sequence[Person], faces: Sequence[Box], max_persons: int) -> None:
        """Take what a detector found: ``persons``, or for given ones the heads that are missing."""
        if self.boxes is None:
            self.persons = dict(enumerate(persons[:max_persons], start=1))
        else:
            self.persons = with_heads(self.given, faces)


@contextmanager
def stage(name: str, jobs: Sequence[Job]) -> Iterator[None]:
    """Note in the jobs how long the block takes."""
    started = time.perf_counter()
    yield
    elapsed = 1000 * (time.perf_counter() - started)
    for job in jobs:
        job.timing[name] = job.timing.get(name, 0.0) + elapsed


def waiting(jobs: Sequence[Job]) -> list[Job]:
    """The jobs that somebody still waits for: not failed, not cancelled."""
    for job in jobs:
        if job.error is None and job.cancelled():
            job.error = Cancelled()
    return [job for job in jobs if job.error is None]


def apart(step: Callable[[list[Job]], None], jobs: list[Job]) -> None:
    """Do a step for all jobs at once; if that fails, for each alone, so that only the one that makes it fail does."""
    if not jobs:
        return
    try:
        step(jobs)
    except Exception as error:  # kept, and answered for this image alone
        if len(jobs) == 1:
            jobs[0].error = alone(error)
            return
        for job in jobs:
            apart(step, waiting([job]))
