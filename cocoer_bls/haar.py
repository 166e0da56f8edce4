"""Fallback where no SCRFD files are built in: OpenCV's Haar face cascade, and a body box guessed from the face.

Good enough to find the person in a first image, not to report results.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from cocoer_bls.boxes import Person, detected_persons
from cocoer_bls.decoding.canvas import four_bytes

CASCADE = "haarcascade_frontalface_default.xml"


class HaarDetector:
    """Finds frontal faces; each becomes a person."""

    def __init__(self) -> None:
        self.cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / CASCADE))
        if self.cascade.empty():
            raise RuntimeError(f"this OpenCV has no {CASCADE}; install opencv-python-headless below 5")

    def __call__(self, image: np.ndarray) -> list[Person]:
        """Persons in a BGR image, largest face first."""
        height, width = image.shape[:2]
        pixels = four_bytes(image)
        code = cv2.COLOR_BGR2GRAY if pixels.shape[2] == 3 else cv2.COLOR_BGRA2GRAY
        gray = cv2.equalizeHist(cv2.cvtColor(pixels, code))
        side = max(24, min(width, height) // 16)
        faces = self.cascade.detectMultiScale(gray, scaleFactor=1.1, minNeighbors=8, minSize=(side, side))
        persons = []
        for x, y, w, h in sorted(faces, key=lambda face: -face[2] * face[3]):
            face = np.array([[x, y, x + w, y + h]], dtype=np.float32)
            persons += detected_persons(np.array([guess_body(x, y, w, h)]), face, width, height)
        return persons


def guess_body(x: float, y: float, w: float, h: float) -> list[float]:
    """A standing body's box from its face's corner and size: three faces wide, seven and a half tall.

    >>> guess_body(100, 50, 20, 20)
    [80.0, 40.0, 140.0, 190.0]
    """
    top = y - 0.5 * h
    return [x - 1.0 * w, top, x + 2.0 * w, top + 7.5 * h]
