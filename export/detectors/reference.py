"""Checking a detector, step by step: its network against the source file, its decoding against insightface's algorithm.

But for the limit of candidates, nothing here is shared with the code that makes the graph: what rows mean is written
down a second time, after insightface's SCRFD (one image, one stride after the other, in NumPy), so that a mistake in
one place shows.

Two steps, because greedy NMS turns the last bit of a score into another box: the model's rows are compared with the
source file's own outputs, image by image, and the decoding is checked on the very scores the model had. (The tests hold
the whole to insightface's own class.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from cocoer_bls.inputs import Tensors
from export.detectors.scrfd import MAX_CANDIDATES
from export.graphs.comparison import Session, onnx_session

ROWS = "rows_{}"
"""Names in the model's graph of what it decodes: FP32 [N, rows, width], scores of each stride, then distances."""
ORDERS = ("top_index", "kept_index")
"""Names in the model's graph of how it ordered what may be equal: INT64 [N, candidates], rows of anchors, the best
first; INT64 [N, K], places in that order of what it returns."""
FORMS = {6: (3, 2), 9: (3, 2), 10: (5, 1), 15: (5, 1)}
"""Outputs of a file -> its strides, from 8 on doubling, and boxes per cell."""

Arrays = list[np.ndarray]


class ScrfdFile:
    """An insightface file as insightface runs and decodes it: one image at a time, with ONNX Runtime's own settings.

    Args:
        path: the file.
        iou_threshold: overlap above which the lower score is suppressed.
    """

    def __init__(self, path: Path, iou_threshold: float) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3  # it warns of outputs that are not of the declared shape
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.levels, self.anchors = FORMS[len(self.session.get_outputs())]
        self.iou_threshold = iou_threshold

    def heads(self, canvas: np.ndarray) -> Arrays:
        """Scores [rows, 1] of each stride, then distances [rows, 4], of a letterbox UINT8 [size, size, 3], BGR."""
        blob = (canvas[None, :, :, ::-1].transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 128
        outputs = self.session.run(None, {self.session.get_inputs()[0].name: blob})
        return [x[0] if x.ndim == 3 else x for x in outputs[: 2 * self.levels]]

    def decode(
        self,
        heads: Sequence[np.ndarray],
        size: int,
        scale: float,
        min_score: float,
        max_candidates: int | None = None,
        orders: Sequence[np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What is found, best first.

        Args:
            heads: as of ``heads``.
            size: side of the letterbox, pixels.
            scale: letterbox pixels per pixel of the image.
            min_score: detections below it are dropped.
            max_candidates: the best so many enter NMS; None: all, as in insightface.
            orders: ``ORDERS`` of the image, which decide between equal scores, and between those alone. None: the
                earlier anchor comes first. (In insightface, which of the two does is left to NumPy.)

        Returns:
            boxes FP32 [N, 4] ((x1, y1, x2, y2), pixels of the image), and their scores FP32 [N].
        """
        boxes, scores, rows, before = [], [], [], 0
        for level in range(self.levels):
            stride = 8 << level
            score, distance = heads[level][:, 0], heads[self.levels + level]
            (good,) = np.nonzero(score >= min_score)
            y, x = np.divmod(good // self.anchors, size // stride)
            left, top, right, bottom = (distance[good] * np.float32(stride)).T
            found = np.stack([x * stride - left, y * stride - top, x * stride + right, y * stride + bottom], axis=1)
            boxes.append(found.astype(np.float32) / np.float32(scale))
            scores.append(score[good])
            rows.append(good + before)
            before += len(score)
        all_boxes, all_scores = np.concatenate(boxes), np.concatenate(scores)
        first, last = ((), ()) if orders is None else orders
        best = np.lexsort((_places(first, before)[np.concatenate(rows)], -all_scores))[:max_candidates]
        kept = np.array(greedy_nms(all_boxes[best], self.iou_threshold), dtype=int)
        kept = kept[np.lexsort((_places(last, len(best))[kept], -all_scores[best[kept]]))]
        return all_boxes[best[kept]], all_scores[best[kept]]


def _places(order: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """Where each of ``count`` numbers comes in an order; those that are not in it come last, as they are."""
    places = np.arange(count) + len(order)
    known = np.asarray(order, dtype=int)
    inside = known < count
    places[known[inside]] = np.flatnonzero(inside)
    return places


class DetectorReference:
    """An insightface SCRFD file, and the served model made of it.

    Args:
        source: the file.
        model: the model's ONNX file.
        iou_threshold: overlap above which the lower score is suppressed.
        load: makes a session of the graph.
    """

    def __init__(
        self, source: Path, model: Path, iou_threshold: float, load: Callable[[bytes], Session] = onnx_session
    ) -> None:
        self.source = ScrfdFile(source, iou_threshold)
        proto = onnx.load(model)
        self.output_names = [value.name for value in proto.graph.output]
        self.row_names = [ROWS.format(index) for index in range(2 * self.source.levels)]
        # The model with what it decodes in view.
        in_view = (*self.row_names, *ORDERS)
        proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in in_view)
        self.model = load(proto.SerializeToString())

    def compare(self, inputs: Tensors) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What was compared -> (the model's, the reference's)."""
        found = iter(self.model.run([*self.output_names, *self.row_names, *ORDERS], inputs))
        final, rows, orders = ([next(found) for _ in names] for names in (self.output_names, self.row_names, ORDERS))
        alone = [self.source.heads(canvas) for canvas in inputs["image"]]
        expected = [np.stack(heads) for heads in zip(*alone)]
        pairs = dict(zip(self.row_names, zip(rows, expected)))
        return pairs | dict(zip(self.output_names, zip(final, self._decode(rows, orders, inputs, final[0].shape[1]))))

    def compare_decoding(self, inputs: Tensors) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The second step alone, for a model whose network was changed on purpose."""
        return {name: pair for name, pair in self.compare(inputs).items() if name in self.output_names}

    def _decode(self, rows: Arrays, orders: Arrays, inputs: Tensors, places: int) -> Arrays:
        """Boxes, scores and counts as the model returns them, with ``places`` boxes for an image."""
        batch, size = inputs["image"].shape[:2]
        boxes = np.zeros((batch, places, 4), dtype=np.float32)
        scores = np.zeros((batch, places), dtype=np.float32)
        counts = np.zeros((batch, 1), dtype=np.int32)
        for index in range(batch):
            scale, min_score = inputs["scale"][index, 0], inputs["min_score"][index, 0]
            heads, own = [x[index] for x in rows], [x[index] for x in orders]
            found, their_scores = self.source.decode(heads, size, scale, min_score, MAX_CANDIDATES, own)
            counts[index] = count = min(len(found), places)
            boxes[index, :count], scores[index, :count] = found[:count], their_scores[:count]
        return [boxes, scores, counts]


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
