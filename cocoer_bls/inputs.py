"""What the ensembles are sent: letterboxes for ``detection``, crops and boxes for ``recognition``. Pure functions.

INT8 is calibrated, and every model verified, with what these functions make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from cocoer_bls.boxes import Box, Person, crop_box
from cocoer_bls.images import LETTERBOX, crop, letterbox

MAX_BATCH_IMAGES = 8
"""Images of one call of ``cocoer``, and of each model that runs once per image."""
MAX_BATCH_PERSONS = 128
"""Persons of one call of ``recognition`` at most; ``max_batch_persons`` may say less."""
MIN_SCORE = 0.5
"""Of detections, where a request does not say another; the release's."""

Tensors = dict[str, np.ndarray]


def detection_inputs(images: Sequence[np.ndarray], min_scores: Sequence[float], size: int = LETTERBOX) -> Tensors:
    """Letterboxes of N images, as ``detection`` takes them.

    Args:
        images: UINT8 [height, width, 3], BGR.
        min_scores: of each image; detections below it are dropped.
        size: side of the letterboxes, pixels; the build's ``detector_size``.

    Returns:
        image UINT8 [N, size, size, 3], scale FP32 [N, 1] (letterbox pixels per pixel), min_score FP32 [N, 1].
    """
    canvases, scales = zip(*(letterbox(image, size) for image in images))
    return {
        "image": np.stack(canvases),
        "scale": np.array(scales, dtype=np.float32)[:, None],
        "min_score": np.array(min_scores, dtype=np.float32)[:, None],
    }


def recognition_inputs(
    images: Sequence[tuple[np.ndarray, Sequence[Person]]], apply: Callable[..., Iterable[np.ndarray]] = map
) -> Tensors:
    """Crops and boxes of I images and their P persons, as ``recognition`` takes them.

    Args:
        images: each with its persons; UINT8 [height, width, 3], BGR.
        apply: ``map``, or that of a pool of threads.

    Returns:
        image UINT8 [I, 224, 224, 3], head_crop and body_crop UINT8 [P, 224, 224, 3], head_box and body_box FP32 [P, 4]
        ((x1, y1, x2, y2) in the image scaled to the 224 square), image_index INT64 [P].
    """
    rows = [(index, pixels, person) for index, (pixels, persons) in enumerate(images) for person in persons]
    wanted: list[tuple[np.ndarray, Box | None]] = [(pixels, None) for pixels, _ in images]
    wanted += [(pixels, person.head) for _, pixels, person in rows]
    wanted += [(pixels, person.body) for _, pixels, person in rows]
    crops = np.stack(list(apply(lambda pair: crop(*pair), wanted)))
    image, head_crop, body_crop = np.split(crops, [len(images), len(images) + len(rows)])
    boxes = {
        "head_box": [crop_box(person.head, pixels.shape[1], pixels.shape[0]) for _, pixels, person in rows],
        "body_box": [crop_box(person.body, pixels.shape[1], pixels.shape[0]) for _, pixels, person in rows],
    }
    return {
        "image": image,
        "image_index": np.array([index for index, _, _ in rows], dtype=np.int64),
        "head_crop": head_crop,
        "body_crop": body_crop,
        **{name: np.array(values, dtype=np.float32) for name, values in boxes.items()},
    }
