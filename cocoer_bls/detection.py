"""Finding persons: by the ``detection`` ensemble, or by OpenCV where a build has no detectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cocoer_bls.boxes import detected_persons, face_boxes
from cocoer_bls.haar import HaarDetector
from cocoer_bls.inputs import Tensors, detection_inputs
from cocoer_bls.jobs import Job, stage
from cocoer_bls.manifest import Detection

Infer = Callable[[str, Tensors, Sequence[str]], Tensors]
"""(model, inputs, names of the outputs wanted) -> outputs."""

OUTPUTS = ("person_boxes", "person_count", "face_boxes", "face_count")


class ByScrfd:
    """Both SCRFD detectors, in one call for all images.

    Args:
        infer: runs a model of the repository.
        size: side of their letterbox, pixels.
        max_persons: the first so many of an image are kept.
    """

    def __init__(self, infer: Infer, size: int, max_persons: int) -> None:
        self.infer, self.size, self.max_persons = infer, size, max_persons

    def __call__(self, jobs: list[Job]) -> None:
        """Fill in ``persons`` of each job."""
        with stage("letterbox", jobs):
            images, min_scores = [job.image for job in jobs], [job.options.min_score for job in jobs]
            inputs = detection_inputs(images, min_scores, self.size)
        with stage("detection", jobs):
            found = self.infer("detection", inputs, OUTPUTS)
        with stage("match", jobs):
            for index, job in enumerate(jobs):
                bodies, faces = (
                    found[f"{kind}_boxes"][index, : found[f"{kind}_count"][index, 0]] for kind in ("person", "face")
                )
                persons = detected_persons(bodies, faces, *job.size)
                job.found(persons, face_boxes(faces, *job.size), self.max_persons)


class ByHaar:
    """OpenCV's face cascade, image by image; calls no model.

    Args:
        max_persons: the first so many of an image are kept.
    """

    def __init__(self, max_persons: int) -> None:
        self.detector, self.max_persons = HaarDetector(), max_persons

    def __call__(self, jobs: list[Job]) -> None:
        """Fill in ``persons`` of each job."""
        for job in jobs:
            with stage("detection", [job]):
                persons = self.detector(job.image)
                job.found(persons, [person.head for person in persons], self.max_persons)


def detection_of(build: Mapping[str, Any], infer: Infer, max_persons: int) -> ByScrfd | ByHaar:
    """How a build finds persons (``detection`` and ``detector_size`` of ``build.json``)."""
    way: Detection = build["detection"]
    return ByHaar(max_persons) if way == "opencv" else ByScrfd(infer, build["detector_size"], max_persons)
