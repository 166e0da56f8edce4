"""What a detector engine must return, computed the slow way: the source file one picture at a time, NumPy for the rest.

The export checks each build with it; the tests hold both to insightface's own class.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from export.detector import scrfd_layout
from export.specs import MAX_DETECTIONS


class DetectorReference:
    """An insightface SCRFD file, decoded in NumPy."""

    def __init__(self, source: Path, iou_threshold: float) -> None:
        self.session = ort.InferenceSession(str(source), providers=["CPUExecutionProvider"])
        self.layout = scrfd_layout(len(self.session.get_outputs()))
        self.iou_threshold = iou_threshold

    def __call__(self, image: np.ndarray, scale: np.ndarray, min_score: np.ndarray) -> list[np.ndarray]:
        """Inputs and outputs as the engine's (``export.specs``)."""
        rows = [self._detect(*one) for one in zip(image, scale[:, 0], min_score[:, 0])]
        boxes = np.zeros((len(rows), MAX_DETECTIONS, 4), dtype=np.float32)
        scores = np.zeros((len(rows), MAX_DETECTIONS), dtype=np.float32)
        for index, (box, score) in enumerate(rows):
            boxes[index, : len(box)], scores[index, : len(score)] = box, score
        return [boxes, scores, np.array([[len(score)] for _, score in rows], dtype=np.int32)]

    def _detect(self, image: np.ndarray, scale: float, min_score: float) -> tuple[np.ndarray, np.ndarray]:
        blob = (image[None, :, :, ::-1].transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 128
        outputs = self.session.run(None, {self.session.get_inputs()[0].name: blob})
        strides = len(self.layout.strides)
        scores = np.concatenate([x.reshape(-1) for x in outputs[:strides]])
        distances = np.concatenate([x.reshape(-1, 4) for x in outputs[strides : 2 * strides]])
        distances = distances * self.layout.stride_of_row()
        centres = self.layout.centres()
        boxes = np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], axis=1) / np.float32(scale)
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] >= min_score]
        kept = greedy_nms(boxes[order], self.iou_threshold)[:MAX_DETECTIONS]
        return boxes[order][kept], scores[order][kept]


def greedy_nms(boxes: np.ndarray, iou_threshold: float) -> list[int]:
    """Indices kept of boxes [N, 4] in descending order of score; sides measured with +1, as insightface does."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    areas = sides[:, 0] * sides[:, 1]
    alive = np.ones(len(boxes), dtype=bool)
    kept = []
    for index in range(len(boxes)):
        if not alive[index]:
            continue
        kept.append(index)
        low = np.maximum(boxes[index, :2], boxes[:, :2])
        high = np.minimum(boxes[index, 2:], boxes[:, 2:])
        overlap = np.clip(high - low + 1, 0, None).prod(axis=1)
        alive &= overlap / (areas[index] + areas - overlap) <= iou_threshold
    return kept
