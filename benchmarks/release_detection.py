"""The baseline's detection: both SCRFD files, one after the other, decoded in NumPy, as insightface does it.

In the baseline's favour: the release's ``FaceAnalysis`` runs four more models of ``buffalo_l`` on every face, and
discards what they say; none of them runs here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cocoer_bls.boxes import Person, detected_persons
from cocoer_bls.images import letterbox
from export.detectors.reference import ScrfdFile
from export.models import DETECTORS, FACE_DETECTOR, PERSON_DETECTOR


class BaselineDetector(ScrfdFile):
    """One file, letterboxes included."""

    def detect(self, image: np.ndarray, min_score: float) -> np.ndarray:
        """UINT8 [H, W, 3], BGR, to boxes FP32 [N, 4] in its pixels, best first."""
        canvas, scale = letterbox(image)
        boxes, _ = self.decode(self.heads(canvas), len(canvas), scale, min_score)
        return boxes


class ReleaseDetection:
    """Persons and faces, matched.

    Args:
        checkpoints: directory with ``insightface/``.
    """

    def __init__(self, checkpoints: Path) -> None:
        self.files = {
            detector.name: BaselineDetector(checkpoints / detector.file, detector.iou_threshold)
            for detector in DETECTORS
        }

    def persons(self, image: np.ndarray, min_score: float) -> list[Person]:
        """Those of an image UINT8 [H, W, 3], BGR, that have a face."""
        height, width = image.shape[:2]
        bodies, faces = (
            self.files[detector.name].detect(image, min_score) for detector in (PERSON_DETECTOR, FACE_DETECTOR)
        )
        return detected_persons(bodies, faces, width, height)
