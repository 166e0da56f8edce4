"""What quantisation changes: INT8 engines against the FP32 network, on images they were not calibrated with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from cocoer.network.model import CocoER
from cocoer.network.normalise import imagenet_normalise
from export.detectors.scrfd import wrap_detector
from export.models.specs import RECOGNITION
from export.precision.calibration import CalibrationImages, Scene, number
from export.publishing.repository import engine_path
from export.verification.in_process import Arrays, InProcessEnsemble

THRESHOLD = 0.26
"""Of the final labels; the release's."""
SAME_BOX = 0.5
"""Overlap from which two boxes are one."""


def recognition_drift(model: CocoER, channel_order: str, repository: Path, images: CalibrationImages) -> dict[str, Any]:
    """Change of the final probabilities.

    Returns:
        ``persons``, ``held_out`` (false: too few images, the same as calibrated with), ``max_change`` and
        ``mean_change`` of probabilities, ``label_agreement`` (share of the 26 decisions that stay), ``same_labels`` and
        ``same_order`` (shares of persons).
    """
    engines = InProcessEnsemble(RECOGNITION, repository)
    changes, decisions, orders = [], [], []
    for image in images.comparing():
        inputs = _inputs(image)
        logits, order = _reference(model, channel_order, inputs)
        found = engines.run(inputs)
        before, after = (1 / (1 + np.exp(-x.astype(np.float64))) for x in (logits, found["logits"]))
        changes.append(np.abs(after - before))
        decisions.append((after > THRESHOLD) == (before > THRESHOLD))
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


def _inputs(image: Scene) -> Arrays:
    crops = {"head": image.heads, "body": image.bodies}
    inputs = {"image": image.crop()[None], "image_index": np.zeros(len(image.heads), dtype=np.int64)}
    for level, boxes in crops.items():
        inputs[f"{level}_crop"] = np.stack([image.crop(box) for box in boxes])
        inputs[f"{level}_box"] = np.array([image.crop_box(box) for box in boxes], dtype=np.float32)
    return inputs


@torch.no_grad()
def _reference(model: CocoER, channel_order: str, inputs: Arrays) -> tuple[np.ndarray, np.ndarray]:
    normalise = imagenet_normalise(channel_order)
    image, head, body = (normalise(torch.from_numpy(inputs[name])) for name in ("image", "head_crop", "body_crop"))
    boxes = [torch.from_numpy(inputs[name]) for name in ("head_box", "body_box")]
    fused = model(image, head, boxes[0], body, boxes[1], torch.from_numpy(inputs["image_index"]))[0]
    return fused.logits.numpy(), fused.order.numpy()


def detection_drift(source: Path, name: str, repository: Path, images: CalibrationImages) -> dict[str, Any]:
    """Boxes found by an INT8 detector and by the FP32 one.

    Returns:
        ``before``, ``after``: how many each finds; ``agreement``: share of all boxes that both find.
    """
    fp32 = wrap_detector(source, name, {}).SerializeToString()
    sessions = [ort.InferenceSession(model) for model in (fp32, str(engine_path(repository, name)))]
    counts, both = [0, 0], 0
    for image in images.comparing():
        canvas, scale = image.letterbox()
        feed = {"image": canvas[None], "scale": number(scale), "min_score": number(0.5)}
        found = []
        for index, session in enumerate(sessions):
            boxes, count = session.run(["boxes", "count"], feed)
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


def describe(drift: dict[str, Any]) -> Sequence[str]:
    """The report for people, line by line."""
    r = drift["recognition"]
    where = "images not calibrated with" if r["held_out"] else "the images calibrated with (5 or more hold some back)"
    lines = [
        f"INT8 against FP32, {r['persons']} persons, {where}:",
        f"  probabilities change by {r['max_change']:.3f} at most, {r['mean_change']:.4f} on average",
        f"  {100 * r['label_agreement']:.1f}% of label decisions stay; {100 * r['same_labels']:.0f}% of persons keep "
        f"all their labels, {100 * r['same_order']:.0f}% their exclusion order",
    ]
    for name, d in drift["detection"].items():
        lines.append(f"  {name}: {d['before']} boxes before, {d['after']} after, {100 * d['agreement']:.0f}% the same")
    return lines
