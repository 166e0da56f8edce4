"""From encoded images to RESULT: decode, one detection call, one recognition call, tidy up.

Knows nothing of Triton: the two calls are handed in, so that the whole can run in a test.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from cocoer_bls.boxes import (
    Box,
    Given,
    Person,
    crop_box,
    detected_persons,
    face_boxes,
    given_persons,
    with_heads,
)
from cocoer_bls.errors import Cancelled
from cocoer_bls.haar import HaarDetector
from cocoer_bls.images import DecodeLimits, crop, decode, letterbox
from cocoer_bls.options import Limits, Options
from cocoer_bls.result import person_entry

Tensors = dict[str, np.ndarray]
Infer = Callable[[str, Tensors, Sequence[str]], Tensors]
"""(model, inputs, names of the outputs wanted) -> outputs."""

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

MODEL_FACTS = ("version", "weights", "synthetic", "detector", "channel_order", "precision")
"""What RESULT says of the build."""


@dataclass
class Job:
    """One image on its way."""

    data: bytes
    options: Options
    boxes: np.ndarray | None = None
    """FP32 [N, 8], PERSONS of the request; None: detect."""
    cancelled: Callable[[], bool] = lambda: False
    """Whether the caller has gone; asked between stages."""
    image: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 3), dtype=np.uint8))
    given: list[Given] = field(default_factory=list)
    """``boxes``, checked."""
    persons: dict[int, Person] = field(default_factory=dict)
    """By number, from 1; of those given, row + 1."""
    rows: list[Tensors] = field(default_factory=list)
    """A row of each output per person."""
    error: Exception | None = None
    timing: dict[str, float] = field(default_factory=dict)
    """Milliseconds of each stage, on the clock; of a shared call, all of it."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.image.shape[1], self.image.shape[0]

    @property
    def to_be_detected(self) -> bool:
        """Whether persons, or heads of persons, have to be found."""
        return self.boxes is None or any(person.head is None for person in self.given)

    def found(self, persons: Sequence[Person], faces: Sequence[Box], maximum: int) -> None:
        """Take what a detector found: ``persons``, or for given ones the heads that are missing."""
        if self.boxes is None:
            self.persons = dict(enumerate(persons[:maximum], start=1))
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


class Pipeline:
    """Serves batches of images; an image's failure stays with it.

    Args:
        infer: runs a model of the repository.
        labels: the 26 categories.
        build: what the export wrote of this build (``build.json``).
        limits: see ``Limits``.
    """

    def __init__(self, infer: Infer, labels: Sequence[str], build: dict[str, Any], limits: Limits) -> None:
        self.infer, self.labels, self.build, self.limits = infer, labels, build, limits
        self.haar = HaarDetector() if build["detector"].startswith("opencv") else None
        # Pillow resizes without Python's lock; more threads than crops of an image would only wait.
        self.threads = ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0))), thread_name_prefix="windows")

    def warm_up(self) -> None:
        """Have decoders and resizers load what they load at their first use; calls no model."""
        grey = np.full((480, 640, 3), 128, dtype=np.uint8)
        for suffix in (".jpg", ".png"):
            data = cv2.imencode(suffix, grey)[1].tobytes()
            job = Job(data, Options(1, 1, 1), image=decode(data, DecodeLimits(grey.size, grey.size)))
            letterbox(job.image)
            recognition_inputs([(job, [Person((0, 0, 320, 480), (80, 0, 240, 160))])], self.threads.map)

    def run(self, jobs: Sequence[Job]) -> None:
        """Fill in ``persons`` and ``rows`` of each job, or its ``error``."""
        for job in _waiting(jobs):
            _apart(self._prepare, [job])
        _apart(self._detect, [job for job in _waiting(jobs) if job.to_be_detected])
        _apart(self._recognise, _waiting(jobs))

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
            "image": {"width": width, "height": height},
            "persons": persons,
            "labels": list(self.labels),
            "model": model,
        }

    def _prepare(self, jobs: list[Job]) -> None:
        for job in jobs:
            with stage("decode", [job]):
                job.image = decode(job.data, self.limits.decode)
            if job.boxes is not None:
                job.given = given_persons(job.boxes, *job.size, self.limits.max_persons)
                job.persons = with_heads(job.given, [])

    def _detect(self, jobs: list[Job]) -> None:
        if self.haar is not None:
            for job in jobs:
                with stage("detection", [job]):
                    persons = self.haar(job.image)
                    job.found(persons, [person.head for person in persons], self.limits.max_persons)
            return
        with stage("letterbox", jobs):
            canvases, scales = zip(*(letterbox(job.image) for job in jobs))
        inputs = {
            "image": np.stack(canvases),
            "scale": np.array(scales, dtype=np.float32)[:, None],
            "min_score": np.array([[job.options.min_score] for job in jobs], dtype=np.float32),
        }
        names = ("person_boxes", "person_count", "face_boxes", "face_count")
        with stage("detection", jobs):
            found = self.infer("detection", inputs, names)
        with stage("match", jobs):
            for index, job in enumerate(jobs):
                bodies, faces = (
                    found[f"{kind}_boxes"][index, : found[f"{kind}_count"][index, 0]] for kind in ("person", "face")
                )
                persons = detected_persons(bodies, faces, *job.size)
                job.found(persons, face_boxes(faces, *job.size), self.limits.max_persons)

    def _recognise(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.rows = []  # this may be the second try
        for part in split_crowds(jobs, self.limits.max_batch_persons):
            images = [job for job, _ in part]
            if not _waiting(images):
                continue
            with stage("windows", images):
                inputs = recognition_inputs(part, self.threads.map)
            with stage("recognition", images):
                outputs = self.infer("recognition", inputs, (*PERSON_OUTPUTS, *IMAGE_OUTPUTS))
            row = 0
            for image, (job, persons) in enumerate(part):
                of_image = {name: outputs[name][image] for name in IMAGE_OUTPUTS}
                for _ in persons:
                    job.rows.append({**{name: outputs[name][row] for name in PERSON_OUTPUTS}, **of_image})
                    row += 1


def _waiting(jobs: Sequence[Job]) -> list[Job]:
    """The jobs that somebody still waits for: not failed, not cancelled."""
    for job in jobs:
        if job.error is None and job.cancelled():
            job.error = Cancelled()
    return [job for job in jobs if job.error is None]


def _apart(step: Callable[[list[Job]], None], jobs: list[Job]) -> None:
    """Do a step for all jobs at once; if that fails, for each alone, so that only the one that makes it fail does."""
    if not jobs:
        return
    try:
        step(jobs)
    except Exception as error:  # kept, and answered for this image alone
        if len(jobs) == 1:
            jobs[0].error = error
            return
        for job in jobs:
            _apart(step, _waiting([job]))


def split_crowds(jobs: Sequence[Job], maximum: int) -> Iterator[list[tuple[Job, list[Person]]]]:
    """Images with their persons, in calls of at most ``maximum`` persons; a larger crowd takes several calls."""
    part: list[tuple[Job, list[Person]]] = []
    room = maximum
    for job in jobs:
        rest = list(job.persons.values())
        while rest:
            taken, rest = rest[:room], rest[room:]
            part.append((job, taken))
            room -= len(taken)
            if room == 0:
                yield part
                part, room = [], maximum
    if part:
        yield part


def recognition_inputs(
    part: Sequence[tuple[Job, Sequence[Person]]], apply: Callable[..., Iterable[np.ndarray]] = map
) -> Tensors:
    """Crops and boxes of images and their persons, as ``recognition`` takes them.

    Args:
        part: images and their persons.
        apply: ``map``, or that of a pool of threads.
    """
    rows = [(image, job, person) for image, (job, persons) in enumerate(part) for person in persons]
    wanted: list[tuple[np.ndarray, tuple[int, int, int, int] | None]] = [(job.image, None) for job, _ in part]
    wanted += [(job.image, person.head) for _, job, person in rows]
    wanted += [(job.image, person.body) for _, job, person in rows]
    crops = np.stack(list(apply(lambda pair: crop(*pair), wanted)))
    image, head_crop, body_crop = np.split(crops, [len(part), len(part) + len(rows)])
    boxes = {
        "head_box": [crop_box(person.head, *job.size) for _, job, person in rows],
        "body_box": [crop_box(person.body, *job.size) for _, job, person in rows],
    }
    return {
        "image": image,
        "image_index": np.array([index for index, _, _ in rows], dtype=np.int64),
        "head_crop": head_crop,
        "body_crop": body_crop,
        **{name: np.array(values, dtype=np.float32) for name, values in boxes.items()},
    }
