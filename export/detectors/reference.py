"""Checking a detector, step by step: its network against the source file, its decoding against NumPy.

Two steps, because greedy NMS turns the last bit of a score into another box: the decoding is checked on the very
scores the detector had. (The tests hold the whole to insightface's own class.)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from cocoer_bls.inputs import Tensors
from export.detectors.network import image_rows, load_network
from export.detectors.scrfd import MAX_DETECTIONS

Arrays = list[np.ndarray]


class DetectorReference:
    """An insightface SCRFD file, and the served model made of it.

    Args:
        source: the file.
        model: the model's ONNX file.
        iou_threshold: overlap above which the lower score is suppressed.
    """

    def __init__(self, source: Path, model: Path, iou_threshold: float) -> None:
        network, self.layout, self.order = load_network(source)
        self.raw_names = [value.name for value in network.graph.output]
        self.source = ort.InferenceSession(str(source), providers=["CPUExecutionProvider"])
        self.iou_threshold = iou_threshold
        proto = onnx.load(model)
        self.output_names = [value.name for value in proto.graph.output]
        # The model with its network's own outputs in view.
        proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in self.raw_names)
        self.model = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])

    def compare(self, inputs: Tensors) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What was compared -> (the model's, the reference's)."""
        batch = len(inputs["image"])
        outputs = self.model.run([*self.output_names, *self.raw_names], inputs)
        final, raw = outputs[: len(self.output_names)], outputs[len(self.output_names) :]
        rows = [image_rows(x, self.order, self.layout, batch) for x in raw]
        alone = [self._run_source(image) for image in inputs["image"]]
        pairs = {f"raw {index}": (x, np.stack([one[index] for one in alone])) for index, x in enumerate(rows)}
        expected = self._decode(rows, inputs["scale"][:, 0], inputs["min_score"][:, 0])
        return pairs | dict(zip(self.output_names, zip(final, expected)))

    def compare_decoding(self, inputs: Tensors) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The second step alone, for a model whose network was changed on purpose."""
        return {name: pair for name, pair in self.compare(inputs).items() if name in self.output_names}

    def _run_source(self, image: np.ndarray) -> Arrays:
        """Raw outputs [rows, width] of one letterbox, preprocessed as insightface does."""
        blob = (image[None, :, :, ::-1].transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 128
        outputs = self.source.run(None, {self.source.get_inputs()[0].name: blob})
        return [x.reshape(-1, x.shape[-1]) for x in outputs[: len(self.raw_names)]]

    def _decode(self, rows: Arrays, scales: np.ndarray, min_scores: np.ndarray) -> Arrays:
        """Boxes, scores and counts as the model's (``export.models.detectors``)."""
        strides = len(self.layout.strides)
        scores = np.concatenate(rows[:strides], axis=1)[:, :, 0]
        distances = np.concatenate(rows[strides:], axis=1) * self.layout.stride_of_row()
        centres = self.layout.centres()
        boxes = np.concatenate([centres - distances[:, :, :2], centres + distances[:, :, 2:]], axis=2)
        boxes /= scales[:, None, None]
        found_boxes = np.zeros((len(scores), MAX_DETECTIONS, 4), dtype=np.float32)
        found_scores = np.zeros((len(scores), MAX_DETECTIONS), dtype=np.float32)
        counts = np.zeros((len(scores), 1), dtype=np.int32)
        for index, (box, score, minimum) in enumerate(zip(boxes, scores, min_scores)):
            order = np.argsort(-score, kind="stable")
            order = order[score[order] >= minimum]
            kept = order[greedy_nms(box[order], self.iou_threshold)[:MAX_DETECTIONS]]
            counts[index] = len(kept)
            found_boxes[index, : len(kept)], found_scores[index, : len(kept)] = box[kept], score[kept]
        return [found_boxes, found_scores, counts]


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
        with np.errstate(invalid="ignore"):  # two boxes without area
            alive &= overlap / (areas[index] + areas - overlap) <= iou_threshold
    return kept
