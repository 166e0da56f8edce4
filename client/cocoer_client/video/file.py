"""An annotated video, written frame by frame. Needs OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from cocoer_client.files import temporary_name
from cocoer_client.optional import opencv


class VideoFile:
    """Writes frames to an MP4 file, which has its name only when it is complete."""

    def __init__(self, path: Path, rate: float) -> None:
        self.cv2 = opencv("video")
        self.path, self.rate = path, rate
        self.temporary = temporary_name(path, ".mp4")
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
