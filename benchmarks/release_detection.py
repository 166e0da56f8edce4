"""The baseline's detection: both SCRFD files, one after the other, decoded in NumPy, as insightface does it.

In the baseline's favour: the release's ``FaceAnalysis`` runs four more models of ``buffalo_l`` on every face, and
discards what they say; none of them runs here.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from cocoer_bls.boxes import Person, detected_persons
from cocoer_bls.images import LETTERBOX, letterbox
from export.detectors.network import scrfd_layout
from export.detectors.reference import greedy_nms
from export.models import DETECTORS, FACE_DETECTOR, PERSON_DETECTOR


class ScrfdFile:
    """One file, run at 640x640 with ONNX Runtime's own settings.

    Args:
        path: insightface's file.
        iou_threshold: overlap above which the lower score is suppressed.
    """

    def __init__(self, path: Path, iou_threshold: float) -> None:
        self.session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.layout = scrfd_layout(len(self.session.get_outputs()))
        self.centres = self.layout.centres()
        self.strides = self.layout.stride_of_row()
        self.iou_threshold = iou_threshold

    def detect(self, image: np.ndarray, min_score: float) -> np.ndarray:
        """UINT8 [H, W, 3], BGR, to boxes FP32 [N, 4] in its pixels, best first."""
        canvas, scale = letterbox(image)
        size = (LETTERBOX, LETTERBOX)
        blob = cv2.dnn.blobFromImage(canvas, 1 / 128, size, (127.5, 127.5, 127.5), swapRB=True)
        outputs = self.session.run(None, {self.session.get_inputs()[0].name: blob})
        levels = len(self.layout.strides)
        scores = np.concatenate([x.reshape(-1) for x in outputs[:levels]])
        distances = np.concatenate([x.reshape(-1, 4) for x in outputs[levels : 2 * levels]])
        good = np.flatnonzero(scores >= min_score)
        good = good[np.argsort(-scores[good], kind="stable")]
        pixels, centres = distances[good] * self.strides[good], self.centres[good]
        boxes = np.concatenate([centres - pixels[:, :2], centres + pixels[:, 2:]], axis=1) / scale
        return boxes[greedy_nms(boxes, self.iou_threshold)]


class ReleaseDetection:
    """Persons and faces, matched.

    Args:
        checkpoints: directory with ``insightface/``.
    """

    def __init__(self, checkpoints: Path) -> None:
        self.files = {
            detector.name: ScrfdFile(checkpoints / detector.file, detector.iou_threshold) for detector in DETECTORS
        }

    def persons(self, image: np.ndarray, min_score: float) -> list[Person]:
        """Those of an image UINT8 [H, W, 3], BGR, that have a face."""
        height, width = image.shape[:2]
        bodies, faces = (
            self.files[detector.name].detect(image, min_score) for detector in (PERSON_DETECTOR, FACE_DETECTOR)
        )
        return detected_persons(bodies, faces, width, height)
