"""From encoded images to RESULT: decode, one detection call, one recognition call, tidy up.

Knows nothing of Triton: the two calls are handed in, so that the whole can run in a test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from cocoer_bls.boxes import Person, given_persons, with_heads
from cocoer_bls.decoding import DecodeLimits, decode, open_image, quiet
from cocoer_bls.detection import Infer, detection_of
from cocoer_bls.images import factor_for, letterbox
from cocoer_bls.inputs import recognition_inputs
from cocoer_bls.jobs import Job, apart, stage, waiting
from cocoer_bls.options import Limits
from cocoer_bls.recognition import Recognition
from cocoer_bls.result import person_entry

MODEL_FACTS = ("version", "weights", "synthetic", "detector", "channel_order", "coordination_step", "precision")
"""What RESULT says of the build."""


class Pipeline:
    """Serves batches of images; an image's failure stays with it.

    Args:
        infer: runs a model of the repository.
        labels: the 26 categories.
        build: what the export wrote of this build (``build.json``).
        limits: see ``Limits``.
    """

    def __init__(self, infer: Infer, labels: Sequence[str], build: dict[str, Any], limits: Limits) -> None:
        self.labels, self.build, self.limits = labels, build, limits
        self.detection = detection_of(build, infer, limits.max_persons)
        self.recognition = Recognition(infer, limits.max_batch_persons)

    def warm_up(self) -> None:
        """Have decoders and resizers load what they load at their first use; calls no model."""
        grey = np.full((480, 640, 3), 128, dtype=np.uint8)
        for suffix in (".jpg", ".png"):
            image = decode(cv2.imencode(suffix, grey)[1].tobytes(), DecodeLimits(grey.size, grey.size))
            letterbox(image)
            persons = [Person((0, 0, 320, 480), (80, 0, 240, 160))]
            recognition_inputs([(image, persons)], self.recognition.threads.map)

    def run(self, jobs: Sequence[Job]) -> None:
        """Fill in ``persons`` and ``rows`` of each job, or its ``error``.

        As many images are there at once as ``max_batch_pixels`` allows; they are dropped as soon as all is cut out of
        them that recognition will look at.
        """
        crowds: list[Job] = []
        for group in self._groups(jobs):
            self._recognise(crowds)  # before others take their room
            with quiet():
                self._side_by_side(self._load, group)
            there = waiting(group)
            self._cut([job for job in there if not job.to_be_detected])
            apart(self.detection, [job for job in there if job.to_be_detected])
            with quiet():
                self._side_by_side(self._load_larger, [job for job in waiting(there) if job.factor > 1])
            self._cut([job for job in waiting(there) if job.to_be_detected])
            crowds = [job for job in waiting(there) if len(job.persons) > self.limits.max_batch_persons]
            for job in group:
                if job not in crowds:  # it has failed, or its caller has gone
                    job.drop()
        self._recognise(jobs)

    def _groups(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """Images in their order, in groups that have no more pixels together than is allowed; a group is never empty.

        They are opened, which shows their size; what can't be opened is in no group.
        """
        group: list[Job] = []
        room = self.limits.max_batch_pixels
        for job in waiting(jobs):
            with quiet():
                apart(self._open, [job])
            if job.opened is None:
                continue
            pixels = job.opened.width * job.opened.height
            if group and pixels > room:
                yield group
                group, room = [], self.limits.max_batch_pixels
            group.append(job)
            room -= pixels
        if group:
            yield group

    def _recognise(self, jobs: Sequence[Job]) -> None:
        """Those of whom it is not done, and who are still wanted."""
        rest = [job for job in waiting(jobs) if not job.is_recognised]
        apart(self.recognition, rest)
        for job in rest:
            job.drop()

    def _side_by_side(self, step: Callable[[list[Job]], None], jobs: Sequence[Job]) -> None:
        self.recognition.threads.map(lambda job: apart(step, [job]), jobs)

    def _cut(self, jobs: list[Job]) -> None:
        for job in jobs:
            apart(self.recognition.cut, [job])

    def result(self, job: Job) -> str:
        """RESULT of a finished job."""
        with stage("result", [job]):
            content = self._content(job)
            text = json.dumps(content, allow_nan=False)
        if job.options.timing:
            content["timing_ms"] = {name: round(elapsed, 3) for name, elapsed in job.timing.items()}
            text = json.dumps(content, allow_nan=False)
        return text

    def _content(self, job: Job) -> dict[str, Any]:
        width, height = job.size
        persons = [
            person_entry(number, person, row, self.labels, job.options)
            for (number, person), row in zip(job.persons.items(), job.rows)
        ]
        model = {key: self.build[key] for key in MODEL_FACTS}
        return {
            "image": {"width": width, "height": height, "damage": job.damage},
            "persons": persons,
            "labels": list(self.labels),
            "model": model,
        }

    def _open(self, jobs: list[Job]) -> None:
        for job in jobs:
            with stage("decode", [job]):
                job.opened = open_image(job.data, self.limits.decode)

    def _load(self, jobs: list[Job]) -> None:
        """Runs in several threads at once."""
        for job in jobs:
            opened = job.opened
            assert opened is not None
            fast = job.options.fast_decode and opened.load_smaller is not None
            if fast:
                job.whole_size = opened.upright_size
                self._take_given(job)
                self._decode(job, self._first_factor(job))
            else:
                self._decode(job)
                self._take_given(job)

    def _load_larger(self, jobs: list[Job]) -> None:
        """Decode once more what turned out to have been decoded too small for its persons; in several threads."""
        for job in jobs:
            factor = _factor_for(job)
            if factor < job.factor:
                job.drop_pixels()
                self._decode(job, factor)

    def _first_factor(self, job: Job) -> int:
        """By how much an image of which only the header is known may be smaller."""
        return self.detection.factor(job.size) if job.to_be_detected else _factor_for(job)

    def _decode(self, job: Job, factor: int = 1) -> None:
        opened, accept = job.opened, job.options.on_damage == "accept"
        assert opened is not None
        with stage("decode", [job]):
            if factor == 1 or opened.load_smaller is None:
                decoded = opened.load(accept)
            else:
                decoded = opened.load_smaller(accept, factor)
        job.image, job.damage, job.factor = decoded.pixels, decoded.damage, decoded.factor
        if job.factor == 1:
            job.opened = None

    def _take_given(self, job: Job) -> None:
        if job.boxes is not None:
            job.given = given_persons(job.boxes, *job.size, self.limits.max_persons)
            job.persons = with_heads(job.given, [])


def _factor_for(job: Job) -> int:
    """By how much the image may be smaller, so that no crop of its persons is enlarged."""
    boxes = [box for person in job.persons.values() for box in person]
    return factor_for([(0, 0, *job.size), *boxes])
