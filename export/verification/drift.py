"""What quantisation changes: INT8 models against FP32, on images they were not calibrated with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from cocoer.network.model import CocoER
from cocoer.network.normalise import imagenet_normalise
from cocoer_bls.inputs import Tensors
from cocoer_bls.options import DEFAULT_OPTIONS
from export.detectors.scrfd import wrap_detector
from export.models import DETECTORS, RECOGNITION
from export.models.detectors import DetectorModel
from export.models.ingredients import Ingredients
from export.precision.calibration import CalibrationImages
from export.publishing.layout import onnx_path
from export.verification.in_process import InProcessEnsemble

SAME_BOX = 0.5
"""Overlap from which two boxes are one."""


def drift(made_of: Ingredients, repository: Path) -> dict[str, Any] | None:
    """What INT8 changes in a complete repository; None for other precisions."""
    images, options = made_of.images, made_of.options
    if images is None:
        return None
    made_of.progress("comparing INT8 with FP32")
    return {
        "recognition": recognition_drift(made_of.network, options.channel_order, repository, images),
        "detection": {
            detector.name: detection_drift(detector, source, repository, images)
            for detector in (one.sized(options.detector_size) for one in DETECTORS)
            if (source := detector.source(options))
        },
    }


def recognition_drift(
    network: CocoER, channel_order: str, repository: Path, images: CalibrationImages
) -> dict[str, Any]:
    """Change of the final probabilities.

    Returns:
        ``persons``, ``held_out`` (false: too few images, the same as calibrated with), ``max_change`` and
        ``mean_change`` of probabilities, ``label_agreement`` (share of the 26 decisions that stay), ``same_labels`` and
        ``same_order`` (shares of persons).
    """
    models = InProcessEnsemble(RECOGNITION, repository)
    threshold = DEFAULT_OPTIONS.final_threshold
    changes, decisions, orders = [], [], []
    for scene in images.comparing():
        logits, order = _reference(network, channel_order, scene.recognition)
        found = models.run(scene.recognition)
        before, after = (1 / (1 + np.exp(-x.astype(np.float64))) for x in (logits, found["logits"]))
        changes.append(np.abs(after - before))
        decisions.append((after > threshold) == (before > threshold))
        orders.append((found["order"] == order).all(axis=1))
    change, decision = np.concatenate(changes), np.concatenate(decisions)
    return {
        "persons": len(change),
        "held_out": images.held_out,
        "max_change": float(change.max()),
        "mean_change": float(change.mean()),
        "label_agreement": float(decision.mean()),
        "same_labels": float(decision.all(axis=1).mean()),
        "same_order": float(np.concatenate(orders).mean()),
    }


@torch.no_grad()
def _reference(network: CocoER, channel_order: str, inputs: Tensors) -> tuple[np.ndarray, np.ndarray]:
    normalise = imagenet_normalise(channel_order)
    image, head, body = (normalise(torch.from_numpy(inputs[name])) for name in ("image", "head_crop", "body_crop"))
    boxes = [torch.from_numpy(inputs[name]) for name in ("head_box", "body_box")]
    fused = network(image, head, boxes[0], body, boxes[1], torch.from_numpy(inputs["image_index"]))[0]
    return fused.logits.numpy(), fused.order.numpy()


def detection_drift(
    detector: DetectorModel, source: Path, repository: Path, images: CalibrationImages
) -> dict[str, Any]:
    """Boxes found by an INT8 detector and by the FP32 one.

    Returns:
        ``before``, ``after``: how many each finds; ``agreement``: share of all boxes that both find.
    """
    fp32 = wrap_detector(source, detector.iou_threshold, {}, size=detector.size).SerializeToString()
    sessions = [ort.InferenceSession(graph) for graph in (fp32, str(onnx_path(repository, detector.name)))]
    counts, both = [0, 0], 0
    for scene in images.comparing():
        found = []
        for index, session in enumerate(sessions):
            boxes, count = session.run(["boxes", "count"], scene.detection(detector.size))
            found.append(boxes[0, : count[0, 0]])
            counts[index] += int(count[0, 0])
        both += _matches(*found)
    union = sum(counts) - both
    return {"before": counts[0], "after": counts[1], "agreement": both / union if union else 1.0}


def _matches(one: np.ndarray, other: np.ndarray) -> int:
    """Boxes of ``one`` that have a partner of their own in ``other``."""
    free = list(other)
    matched = 0
    for box in one:
        overlaps = [_overlap(box, candidate) for candidate in free]
        if overlaps and max(overlaps) >= SAME_BOX:
            free.pop(int(np.argmax(overlaps)))
            matched += 1
    return matched


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2)."""
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    shared = float(sides.prod())
    areas = sum(float(np.clip(box[2:] - box[:2], 0, None).prod()) for box in (a, b))
    return shared / (areas - shared) if areas > shared else 0.0


def describe(found: dict[str, Any]) -> Sequence[str]:
    """The report for people, line by line."""
    r = found["recognition"]
    where = "images not calibrated with" if r["held_out"] else "the images calibrated with (5 or more hold some back)"
    lines = [
        f"INT8 against FP32, {r['persons']} persons, {where}:",
        f"  probabilities change by {r['max_change']:.3f} at most, {r['mean_change']:.4f} on average",
        f"  {100 * r['label_agreement']:.1f}% of label decisions stay; {100 * r['same_labels']:.0f}% of persons keep "
        f"all their labels, {100 * r['same_order']:.0f}% their exclusion order",
    ]
    for name, d in found["detection"].items():
        lines.append(f"  {name}: {d['before']} boxes before, {d['after']} after, {100 * d['agreement']:.0f}% the same")
    return lines
