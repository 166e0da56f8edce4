"""Finding persons: by the ``detection`` ensemble, or by OpenCV where a build has no detectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from cocoer_bls.boxes import body_boxes, face_boxes, match
from cocoer_bls.decoding import FACTORS
from cocoer_bls.haar import HaarDetector
from cocoer_bls.inputs import Tensors, detection_inputs
from cocoer_bls.jobs import Job, stage
from cocoer_bls.manifest import Detection

Infer = Callable[[str, Tensors, Sequence[str]], Tensors]
"""(model, inputs, names of the outputs wanted) -> outputs."""

BOTH, FACES = "detection", "face_detector"
OUTPUTS = {BOTH: ("person_boxes", "person_count", "face_boxes", "face_count"), FACES: ("boxes", "count")}
"""Of the ensemble of both detectors, and of the one that suffices where bodies are given."""


class ByScrfd:
    """SCRFD's detectors, in one call for all images that want both, and one for those that want faces only.

    Args:
        infer: runs a model of the repository.
        size: side of their letterbox, pixels.
        max_persons: the first so many of an image are kept.
    """

    def __init__(self, infer: Infer, size: int, max_persons: int) -> None:
        self.infer, self.size, self.max_persons = infer, size, max_persons

    def factor(self, size: tuple[int, int]) -> int:
        """By how much an image of this width and height may be smaller: its letterbox stays a scaling down."""
        return next((factor for factor in FACTORS if max(size) >= 2 * factor * self.size), 1)

    def __call__(self, jobs: list[Job]) -> None:
        """Fill in ``persons`` of each job."""
        for model, wanting in ((BOTH, _wanting(jobs, bodies=True)), (FACES, _wanting(jobs, bodies=False))):
            if wanting:
                self._find(model, wanting)

    def _find(self, model: str, jobs: list[Job]) -> None:
        with stage("letterbox", jobs):
            images, min_scores = [job.image for job in jobs], [job.options.min_score for job in jobs]
            inputs = detection_inputs(images, min_scores, self.size, [job.size[1] for job in jobs])
        with stage("detection", jobs):
            found = self.infer(model, inputs, OUTPUTS[model])
        prefix = "face_" if model == BOTH else ""
        with stage("match", jobs):
            for index, job in enumerate(jobs):
                faces = face_boxes(_boxes(found, prefix, index), *job.size)
                bodies = body_boxes(_boxes(found, "person_", index), *job.size) if model == BOTH else []
                job.found(match(bodies, faces), faces, self.max_persons)


def _wanting(jobs: list[Job], bodies: bool) -> list[Job]:
    """Those whose bodies are to be found, or those who have them."""
    return [job for job in jobs if (job.boxes is None) == bodies]


def _boxes(found: Tensors, prefix: str, index: int) -> np.ndarray:
    """A detector's boxes of an image, FP32 [N, 4]."""
    boxes: np.ndarray = found[f"{prefix}boxes"][index, : found[f"{prefix}count"][index, 0]]
    return boxes


class ByHaar:
    """OpenCV's face cascade, image by image; calls no model.

    Args:
        max_persons: the first so many of an image are kept.
    """

    def __init__(self, max_persons: int) -> None:
        self.detector, self.max_persons = HaarDetector(), max_persons

    def factor(self, size: tuple[int, int]) -> int:
        """The cascade looks at the whole image."""
        return 1

    def __call__(self, jobs: list[Job]) -> None:
        """Fill in ``persons`` of each job."""
        for job in jobs:
            with stage("detection", [job]):
                persons = self.detector(job.image)
                job.found(persons, [person.head for person in persons], self.max_persons)


def detection_of(build: Mapping[str, Any], infer: Infer, max_persons: int) -> ByScrfd | ByHaar:
    """How a build finds persons (``detection`` and ``detector_size`` of ``build.json``).

    OpenCV keeps its threads, in all of this process, for the cascade alone.
    """
    way: Detection = build["detection"]
    if way == "opencv":
        return ByHaar(max_persons)
    # A letterbox takes less time than to wake threads for it; and these spin for a while, in case there is more.
    cv2.setNumThreads(1)
    return ByScrfd(infer, build["detector_size"], max_persons)
