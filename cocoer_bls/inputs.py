"""What the ensembles are sent: letterboxes for ``detection``, crops and boxes for ``recognition``. Pure functions.

INT8 is calibrated, and every model verified, with what these functions make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cocoer_bls.boxes import Box, Person, crop_box
from cocoer_bls.images import CROP, LETTERBOX, crop, crop_smaller, letterbox

MAX_BATCH_IMAGES = 8
"""Images of one call of ``cocoer``, and of each model that runs once per image."""
MAX_BATCH_PERSONS = 128
"""Persons of one call of ``recognition`` at most; ``max_batch_persons`` may say less."""
MIN_SCORE = 0.5
"""Of detections, where a request does not say another; the release's."""

Tensors = dict[str, np.ndarray]


def detection_inputs(
    images: Sequence[np.ndarray],
    min_scores: Sequence[float],
    size: int = LETTERBOX,
    heights: Sequence[int] | None = None,
) -> Tensors:
    """Letterboxes of N images, as ``detection`` takes them.

    Args:
        images: UINT8 [height, width, 3], BGR.
        min_scores: of each image; detections below it are dropped.
        size: side of the letterboxes, pixels; the build's ``detector_size``.
        heights: of the whole images, in whose pixels boxes are found; None: they are whole.

    Returns:
        image UINT8 [N, size, size, 3], scale FP32 [N, 1] (letterbox pixels per pixel), min_score FP32 [N, 1].
    """
    squares = np.empty((len(images), size, size, 3), dtype=np.uint8)
    scales = [letterbox(image, size, square)[1] for image, square in zip(images, squares)]
    smaller = [1.0] * len(images) if heights is None else [len(one) / whole for one, whole in zip(images, heights)]
    return {
        "image": squares,
        "scale": np.array([scale * factor for scale, factor in zip(scales, smaller)], dtype=np.float32)[:, None],
        "min_score": np.array(min_scores, dtype=np.float32)[:, None],
    }


@dataclass(frozen=True)
class Crops:
    """What ``recognition`` sees of an image and its P persons."""

    image: np.ndarray
    """UINT8 [224, 224, 3], BGR, as the other crops."""
    head_crop: np.ndarray
    """UINT8 [P, 224, 224, 3]."""
    body_crop: np.ndarray
    head_box: np.ndarray
    """FP32 [P, 4], (x1, y1, x2, y2) in the image scaled to the 224 square."""
    body_box: np.ndarray

    def of(self, first: int, end: int) -> Crops:
        """Those of some of the persons."""
        names = ("head_crop", "body_crop", "head_box", "body_box")
        return Crops(self.image, *(getattr(self, name)[first:end] for name in names))


def cut(
    pixels: np.ndarray,
    persons: Sequence[Person],
    apply: Callable[..., Iterable[None]] = map,
    size: tuple[int, int] | None = None,
) -> Crops:
    """Cut out all that recognition will look at, so that the image itself can go.

    Args:
        pixels: UINT8 [height, width, 3], BGR.
        persons: in the image.
        apply: ``map``, or that of a pool of threads.
        size: width and height of the whole image, if this one was decoded smaller.
    """
    here = (pixels.shape[1], pixels.shape[0])
    width, height = size or here
    heads, bodies = [person.head for person in persons], [person.body for person in persons]
    taken = crop if (width, height) == here else partial(crop_smaller, size=(width, height))
    boxes: list[Box | None] = [None, *heads, *bodies]
    crops = np.empty((len(boxes), CROP, CROP, 3), dtype=np.uint8)

    def fill(index: int) -> None:
        crops[index] = taken(pixels, boxes[index])

    for _ in apply(fill, range(len(boxes))):
        pass
    head_box, body_box = (
        np.array([crop_box(box, width, height) for box in of], dtype=np.float32).reshape(-1, 4)
        for of in (heads, bodies)
    )
    return Crops(crops[0], crops[1 : len(heads) + 1], crops[len(heads) + 1 :], head_box, body_box)


def joined(images: Sequence[Crops]) -> Tensors:
    """I images and their P persons, as ``recognition`` takes them.

    Returns:
        image UINT8 [I, 224, 224, 3], head_crop and body_crop UINT8 [P, 224, 224, 3], head_box and body_box FP32 [P, 4],
        image_index INT64 [P].
    """
    counts = [len(crops.head_box) for crops in images]
    return {
        "image": _together([crops.image[None] for crops in images]),
        "image_index": np.repeat(np.arange(len(images), dtype=np.int64), counts),
        "head_crop": _together([crops.head_crop for crops in images]),
        "body_crop": _together([crops.body_crop for crops in images]),
        "head_box": _together([crops.head_box for crops in images]),
        "body_box": _together([crops.body_box for crops in images]),
    }


def _together(rows: Sequence[np.ndarray]) -> np.ndarray:
    """One array of all rows; not copied where it is there already."""
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def recognition_inputs(
    images: Sequence[tuple[np.ndarray, Sequence[Person]]], apply: Callable[..., Iterable[None]] = map
) -> Tensors:
    """Crops and boxes of images with their persons, as ``recognition`` takes them; see ``cut`` and ``joined``."""
    return joined([cut(pixels, persons, apply) for pixels, persons in images])
