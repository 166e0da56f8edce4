"""The golden image's crops and boxes."""

from __future__ import annotations

import numpy as np

from cocoer_bls.boxes import given_persons, with_heads
from cocoer_bls.inputs import Tensors, recognition_inputs

LOGITS = {"pred": "logits", "vi": "vi_logits", "head": "head_logits", "body": "body_logits", "ctx": "context_logits"}
"""Golden array -> tensor of ``recognition``."""


def person_rows(golden: Tensors) -> np.ndarray:
    """``PERSONS`` FP32 [N, 8] of a golden file."""
    return np.hstack([golden["body_box"], golden["head_box"]]).astype(np.float32)


def inputs(image: np.ndarray, golden: Tensors) -> Tensors:
    """``recognition``'s inputs for the image (UINT8 [H, W, 3], BGR) and the persons whose boxes the file has."""
    height, width = image.shape[:2]
    persons = with_heads(given_persons(person_rows(golden), width, height, max_persons=10), faces=[])
    return recognition_inputs([(image, list(persons.values()))])
