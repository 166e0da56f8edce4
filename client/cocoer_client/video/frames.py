"""Frames of a video or camera. Needs OpenCV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cocoer_client.errors import InvalidInput
from cocoer_client.inputs import Pixels
from cocoer_client.optional import opencv
from cocoer_client.sources import CAMERA, Source


@dataclass(frozen=True)
class Frame:
    """One frame that is asked about."""

    index: int
    """From 0, among all of the video's frames."""
    time_s: float
    pixels: Pixels
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
