"""Images to calibrate and compare quantised engines with: a folder the user names, and crops cut from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from export.models.specs import DETECTOR_INPUT, IMAGE, EngineSpec

Arrays = dict[str, np.ndarray]
Box = tuple[int, int, int, int]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
PERSONS = 2
"""Persons imagined in each image."""
HELD_OUT = 5
"""Every fifth image is not calibrated with, but compared on."""


class CalibrationError(Exception):
    """A folder that can't be calibrated with; the message says why."""


@dataclass(frozen=True)
class Scene:
    """An image with persons imagined at random places: trunks see the pixels they will see, no detector is needed."""

    image: np.ndarray
    """UINT8 [height, width, 3], BGR."""
    bodies: tuple[Box, ...]
    heads: tuple[Box, ...]
    """Integer pixels, inside the image."""

    def crop(self, box: Box | None = None) -> np.ndarray:
        """UINT8 [224, 224, 3]: a box, or all of it."""
        x1, y1, x2, y2 = box or (0, 0, self.image.shape[1], self.image.shape[0])
        crop = Image.fromarray(np.ascontiguousarray(self.image[y1:y2, x1:x2]))
        return np.array(crop.resize((IMAGE, IMAGE), Image.Resampling.BILINEAR))

    def crop_box(self, box: Box) -> list[float]:
        """The box in the 224 square."""
        height, width = self.image.shape[:2]
        return [float(int(value * (IMAGE / side))) for value, side in zip(box, (width, height, width, height))]

    def letterbox(self) -> tuple[np.ndarray, float]:
        """UINT8 [640, 640, 3], and letterbox pixels per pixel."""
        height, width = self.image.shape[:2]
        scale = DETECTOR_INPUT / max(height, width)
        size = max(1, int(width * scale)), max(1, int(height * scale))
        canvas = np.zeros((DETECTOR_INPUT, DETECTOR_INPUT, 3), dtype=np.uint8)
        canvas[: size[1], : size[0]] = cv2.resize(self.image, size)
        return canvas, size[1] / height


class CalibrationImages:
    """The images of a folder.

    Args:
        folder: JPEG, PNG, WebP or BMP files, read in the order of their names; sub-folders are not.

    Raises:
        CalibrationError: no folder, no image in it, or a file that can't be read.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise CalibrationError(f"{folder} is not a folder; --calibration wants one with images like yours")
        self.files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if not self.files:
            raise CalibrationError(f"{folder} has no image ({', '.join(SUFFIXES)})")
        for index in range(len(self.files)):  # a file that can't be read is to be known now, not after the build
            self._read(index)

    @property
    def held_out(self) -> bool:
        """Whether there are enough images to keep some for the comparison alone."""
        return len(self.files) >= HELD_OUT

    def calibrating(self) -> Iterator[Scene]:
        """Images to calibrate with, read one by one."""
        return (self._read(i) for i in range(len(self.files)) if not self.held_out or i % HELD_OUT)

    def comparing(self) -> Iterator[Scene]:
        """Images to compare on, read one by one."""
        return (self._read(i) for i in range(len(self.files)) if not self.held_out or not i % HELD_OUT)

    def identity(self) -> str:
        """SHA-256 over the files' contents."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def inputs(self, spec: EngineSpec) -> Iterator[Arrays]:
        """Input of an engine, an image or a person at a time. Context tokens are zeros: no trunk sees them."""
        for image in self.calibrating():
            if spec.is_detector:
                canvas, scale = image.letterbox()
                yield {"image": canvas[None], "scale": number(scale), "min_score": number(0.5)}
            elif any(tensor.name == "crop" for tensor in spec.inputs):
                for box in image.heads if spec.name.startswith("head") else image.bodies:
                    tokens = np.zeros((1, 49, 256), dtype=np.float32)
                    boxes = np.array([image.crop_box(box)], dtype=np.float32)
                    yield {"crop": image.crop(box)[None], "box": boxes, "context_tokens": tokens}
            else:
                yield {"image": image.crop()[None]}

    def _read(self, index: int) -> Scene:
        image = cv2.imread(str(self.files[index]), cv2.IMREAD_COLOR)
        if image is None:
            raise CalibrationError(f"{self.files[index]} can't be read as an image; remove or repair it")
        rng = np.random.default_rng(index)
        bodies = tuple(_imagine(rng, image.shape, 0.3, 0.9) for _ in range(PERSONS))
        return Scene(image, bodies, tuple(_head(body) for body in bodies))


def number(value: float) -> np.ndarray:
    """FP32 [1, 1]."""
    return np.array([[value]], dtype=np.float32)


def _imagine(rng: np.random.Generator, shape: tuple[int, ...], minimum: float, maximum: float) -> Box:
    """An upright box somewhere in an image [height, width], ``minimum`` to ``maximum`` of its height."""
    height = max(2, int(shape[0] * rng.uniform(minimum, maximum)))
    width = min(shape[1], max(2, int(height * rng.uniform(0.35, 0.7))))
    x, y = (int(rng.integers(0, room + 1)) for room in (shape[1] - width, shape[0] - height))
    return x, y, x + width, y + height


def _head(body: Box) -> Box:
    """The upper middle of a body."""
    x1, y1, x2, y2 = body
    side = max(1, min(x2 - x1, y2 - y1) // 3)
    middle = (x1 + x2) // 2
    return middle - side // 2, y1, middle - side // 2 + side, y1 + side
