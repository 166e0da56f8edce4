"""Recognising the persons of a batch: crops, calls of the ``recognition`` ensemble, a row of outputs per person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cocoer_bls.boxes import Person
from cocoer_bls.detection import Infer
from cocoer_bls.inputs import Crops, cut, joined
from cocoer_bls.jobs import Job, stage, waiting
from cocoer_bls.threads import Threads

# Per person; the rest of ``recognition``'s outputs has a row per image.
PERSON_OUTPUTS = (
    "logits",
    "order",
    "losses",
    "lambda_w1",
    "lambda_b1",
    "lambda_w2",
    "lambda_b2",
    "grad_distance",
    "head_logits",
    "body_logits",
    "refined_logits",
)
IMAGE_OUTPUTS = ("context_logits", "vi_logits")
SHARED_PIXELS = 1 << 20
"""Of an image whose crops several threads cut out: of smaller ones it costs more than it gains."""


class Recognition:
    """Calls ``recognition`` for batches of images with persons.

    Args:
        infer: runs a model of the repository.
        max_batch_persons: of one call; see ``Limits``.
    """

    def __init__(self, infer: Infer, max_batch_persons: int) -> None:
        self.infer, self.max_batch_persons, self.threads = infer, max_batch_persons, Threads()

    def cut(self, jobs: list[Job]) -> None:
        """Fill in ``crops`` of each job, and drop its image; a crowd that takes several calls keeps its image."""
        for job in jobs:
            if len(job.persons) > self.max_batch_persons:
                continue
            if job.persons:
                with stage("windows", [job]):
                    job.crops = self._cut(job, list(job.persons.values()))
            job.drop()

    def __call__(self, jobs: list[Job]) -> None:
        """Fill in ``rows`` of each job."""
        for job in jobs:
            job.rows = []  # this may be the second try
        for part in split_crowds(jobs, self.max_batch_persons):
            images = [job for job, _ in part]
            if not waiting(images):
                continue
            inputs = joined([self._crops(job, persons) for job, persons in part])
            with stage("recognition", images):
                outputs = self.infer("recognition", inputs, (*PERSON_OUTPUTS, *IMAGE_OUTPUTS))
            row = 0
            for image, (job, persons) in enumerate(part):
                of_image = {name: outputs[name][image] for name in IMAGE_OUTPUTS}
                for _ in persons:
                    job.rows.append({**{name: outputs[name][row] for name in PERSON_OUTPUTS}, **of_image})
                    row += 1

    def _crops(self, job: Job, persons: Sequence[Person]) -> Crops:
        """Of those of its persons who come next."""
        if job.crops is not None:
            return job.crops.of(len(job.rows), len(job.rows) + len(persons))
        with stage("windows", [job]):
            return self._cut(job, persons)

    def _cut(self, job: Job, persons: Sequence[Person]) -> Crops:
        height, width = job.image.shape[:2]
        shared = height * width >= SHARED_PIXELS
        return cut(job.image, persons, self.threads.map if shared else map, job.size)


def split_crowds(jobs: Sequence[Job], max_persons: int) -> Iterator[list[tuple[Job, list[Person]]]]:
    """Images with their persons, in calls of at most ``max_persons``; a larger crowd takes several calls."""
    part: list[tuple[Job, list[Person]]] = []
    room = max_persons
    for job in jobs:
        rest = list(job.persons.values())
        while rest:
            taken, rest = rest[:room], rest[room:]
            part.append((job, taken))
            room -= len(taken)
            if room == 0:
                yield part
                part, room = [], max_persons
    if part:
        yield part
