"""Images to measure with: the sample as JPEG of common sizes, with persons given by their boxes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SAMPLE = Path(__file__).resolve().parent.parent / "examples" / "astronaut.png"
# (body, head) of persons in the 512x512 sample, as shares of its side; eight, of the sizes persons have in photographs.
_SHARES = [
    (0.18, 0.04, 0.78, 1.0, 0.35, 0.13, 0.53, 0.31),
    (0.05, 0.2, 0.45, 0.95, 0.15, 0.22, 0.3, 0.38),
    (0.5, 0.1, 0.95, 0.9, 0.62, 0.12, 0.8, 0.3),
    (0.3, 0.3, 0.6, 1.0, 0.38, 0.32, 0.52, 0.46),
    (0.0, 0.0, 0.35, 0.7, 0.08, 0.02, 0.22, 0.2),
    (0.6, 0.35, 1.0, 1.0, 0.7, 0.38, 0.85, 0.55),
    (0.25, 0.05, 0.5, 0.6, 0.3, 0.07, 0.42, 0.2),
    (0.45, 0.4, 0.7, 0.9, 0.5, 0.42, 0.62, 0.55),
]


def sample_pieces() -> list[np.ndarray]:
    """Ten images, UINT8 [height, width, 3], BGR, made of the sample: parts, some mirrored, some darker."""
    with Image.open(SAMPLE) as sample:
        whole = np.array(sample.convert("RGB"))[:, :, ::-1]
    parts = [whole, whole[60:460, 40:], whole[:330, 100:420], whole[100:, :380], whole[:300]]
    return [part[:, ::-1] if index % 2 else part for index, part in enumerate(parts)] + [part // 2 for part in parts]


@dataclass(frozen=True)
class Workload:
    """One kind of request."""

    name: str
    width: int
    height: int
    persons: int | None
    """Boxes given; None: the server detects."""
    min_score: float | None = None
    """Where it detects: the score that leaves one person of the synthetic detectors' many. perf_analyzer 2.50 drops
    request parameters, so that the benchmark's repository has it for its default."""

    @cached_property
    def image(self) -> np.ndarray:
        """UINT8 [height, width, 3], BGR, as decoded from ``jpeg``."""
        return cv2.imdecode(np.frombuffer(self.jpeg, dtype=np.uint8), cv2.IMREAD_COLOR)

    @cached_property
    def jpeg(self) -> bytes:
        with Image.open(SAMPLE) as sample:
            image = np.array(sample.convert("RGB").resize((self.width, self.height)))[:, :, ::-1]
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()

    @cached_property
    def boxes(self) -> np.ndarray:
        """FP32 [persons, 8], whole pixels."""
        scale = np.array([self.width, self.height] * 4)
        shares = np.resize(_SHARES, (self.persons or 0, 8))  # more than eight: the same ones again
        return np.round(shares * scale).astype(np.float32)


BOXES_GIVEN = tuple(Workload(f"{count} given", 640, 480, count) for count in (1, 2, 4, 8))
LARGE = (Workload("1 given, 1280x720", 1280, 720, 1), Workload("1 given, 1920x1080", 1920, 1080, 1))
HEAVY = (Workload("1 given, 4000x3000", 4000, 3000, 1), Workload("128 given", 640, 480, 128))
"""What takes memory: a phone's photo, and a crowd."""
