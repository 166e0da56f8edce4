"""``--style release``: the image as CocoER's own script draws it (its ``inference.py``), warnings aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from cocoer_client.drawing.banner import with_banner
from cocoer_client.drawing.figures import Boxes
from cocoer_client.optional import opencv

GREEN, YELLOW, BLUE, BLACK = (0, 255, 0), (255, 255, 0), (0, 0, 255), (0, 0, 0)
"""RGB."""
LINE_SPACING = 10


def annotate_as_release(
    image: Image.Image, result: Mapping[str, Any], warnings: Sequence[str] = (), boxes: Boxes = "both"
) -> Image.Image:
    """Thin boxes (body green, face yellow), numbers from 0 in blue, final labels in green on black beside each face.

    Args:
        image: RGB, upright, of the size in ``result["image"]``.
        result: the RESULT object.
        warnings: lines for a banner above the image; the release has none.
        boxes: which are drawn; the release draws both.

    Raises:
        InvalidInput: OpenCV, which draws it, is not installed.
    """
    cv2 = opencv("--style release")
    canvas = np.array(image)
    font = cv2.FONT_HERSHEY_SIMPLEX
    for index, person in enumerate(result["persons"]):
        body, head = person["body_box"], person["head_box"]
        if boxes == "both":
            cv2.rectangle(canvas, body[:2], body[2:], GREEN, 1)
        if boxes != "none":
            cv2.rectangle(canvas, head[:2], head[2:], YELLOW, 1)
        cv2.putText(canvas, str(index), (body[0], body[1] + 10), font, 0.8, BLUE, 2)
        x = head[2] + 10
        for line, label in enumerate(person["pred"]):
            y = head[1] + line * LINE_SPACING
            width, height = cv2.getTextSize(label, font, 0.3, 1)[0]
            cv2.rectangle(canvas, (x - 2, y - height - 2), (x + width + 2, y + 2), BLACK, -1)
            cv2.putText(canvas, label, (x, y), font, 0.3, GREEN, 1)
    image = Image.fromarray(canvas)
    return with_banner(image, warnings) if warnings else image
