"""Frames of a video or camera, and an annotated video written from them. Needs OpenCV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from cocoer_client.errors import InvalidInput
from cocoer_client.optional import opencv
from cocoer_client.sources import CAMERA, Source


@dataclass(frozen=True)
class Frame:
    """One frame that is asked about."""

    index: int
    """From 0, among all of the video's frames."""
    time_s: float
    pixels: np.ndarray
    """UINT8 [H, W, 3], RGB."""
    last: bool
    """No other follows."""


class Video:
    """Every ``step``-th frame of a video file or camera.

    Raises:
        InvalidInput: it can't be opened, or has no frame.
    """

    def __init__(self, source: Source, step: int, maximum: int | None) -> None:
        self.cv2 = opencv("video")
        self.step, self.maximum = step, maximum
        name = int(source.name[len(CAMERA) :]) if source.kind == "camera" else source.name
        if isinstance(name, str) and not os.path.exists(name):
            raise InvalidInput("No such file or directory")
        self.capture = self.cv2.VideoCapture(name)
        if not self.capture.isOpened():
            raise InvalidInput("no such camera" if source.kind == "camera" else "not a video that OpenCV can read")
        self.rate = self.capture.get(self.cv2.CAP_PROP_FPS) or 25.0

    def expected(self) -> int | None:
        """Frames to come, as far as the file tells; None: not known."""
        total = int(self.capture.get(self.cv2.CAP_PROP_FRAME_COUNT))
        if total <= 0:
            return self.maximum
        return min(-(-total // self.step), self.maximum or total)

    def frames(self) -> Iterator[Frame]:
        """The frames; raises InvalidInput where there is none."""
        try:
            # One ahead, to know the last.
            previous: Frame | None = None
            for count, frame in enumerate(self._every()):
                if previous is not None:
                    yield previous
                previous = frame
                if self.maximum is not None and count + 1 >= self.maximum:
                    break
            if previous is None:
                raise InvalidInput("the video has no frame")
            yield replace(previous, last=True)
        finally:
            self.capture.release()

    def _every(self) -> Iterator[Frame]:
        index = 0
        while self.capture.grab():
            if index % self.step == 0:
                there, pixels = self.capture.retrieve()
                if there:
                    yield Frame(index, round(index / self.rate, 3), pixels[..., ::-1].copy(), last=False)
            index += 1


class VideoFile:
    """Writes frames to an MP4 file, which has its name only when it is complete."""

    def __init__(self, path: Path, rate: float) -> None:
        self.cv2 = opencv("video")
        self.path, self.rate = path, rate
        self.temporary = path.with_name(f".{path.stem}.{os.getpid()}.part.mp4")
        self.writer: Any = None
        self.size = (0, 0)

    def add(self, image: Image.Image) -> None:
        """Append a frame; all are fitted into the first one's size, less an odd row or column, which codecs can't take.

        Raises:
            OSError: OpenCV can't write this file.
        """
        if self.writer is None:
            self._open((image.width // 2 * 2, image.height // 2 * 2))
        if abs(image.width - self.size[0]) > 1 or abs(image.height - self.size[1]) > 1:
            image = ImageOps.pad(image, self.size)  # a frame that failed has no banner
        self.writer.write(np.ascontiguousarray(np.asarray(image)[: self.size[1], : self.size[0], ::-1]))

    def _open(self, size: tuple[int, int]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.size = size
        fourcc = self.cv2.VideoWriter_fourcc(*"mp4v")
        self.writer = self.cv2.VideoWriter(str(self.temporary), fourcc, self.rate, size)
        if not self.writer.isOpened():
            raise OSError(f"OpenCV can't write {self.path}")

    def finish(self) -> None:
        """The video is complete."""
        self.writer.release()
        self.temporary.replace(self.path)

    def abandon(self) -> None:
        """It won't be: leave nothing behind."""
        if self.writer is not None:
            self.writer.release()
        self.temporary.unlink(missing_ok=True)
