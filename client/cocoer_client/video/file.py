"""An annotated film, written frame by frame: H.264 and AAC in MP4, which browsers play. Needs PyAV."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from cocoer_client.files import temporary_name
from cocoer_client.optional import pyav
from cocoer_client.video.sound import Sound

CLOCK = 90_000
"""Ticks per second of the film's times."""
ENCODERS = {
    "libx264": {"preset": "veryfast", "crf": "20", "bf": "0"},
    "libopenh264": {"rc_mode": "quality"},
    "h264": {},
}
"""Tried in this order, with their options; of x264 without frames that refer to later ones, so that times are plain."""
KEY_FRAMES = 2.0
"""Seconds between frames that a player can seek to."""
BT709 = 1


class VideoFile:
    """Writes frames to an MP4 file, which has its name only when it is complete.

    Args:
        path: the file.
        frame_s: how long the last frame is shown, seconds; the others until the next.
        sound_of: the film whose sound goes along; None: no sound.
        origin: that film's beginning, in its container's time, seconds.
    """

    def __init__(self, path: Path, frame_s: float, sound_of: str | None = None, origin: float = 0.0) -> None:
        self.av = pyav("an annotated video")
        self.av.logging.set_level(None)
        self.path, self.frame_s, self.sound_of, self.origin = path, frame_s, sound_of, origin
        self.temporary = temporary_name(path, ".mp4")
        self.container: Any = None
        self.stream: Any = None
        self.sound: Sound | None = None
        self.size = (0, 0)
        self.held: Image.Image | None = None
        self.held_at = self.last_tick = 0

    def add(self, image: Image.Image, time_s: float) -> None:
        """Append a frame; all are fitted into the first one's size, less an odd row or column, which codecs can't take.

        Args:
            image: RGB.
            time_s: seconds from the film's beginning; a frame that is not after the one before replaces it.

        Raises:
            OSError: it can't be written.
        """
        if self.container is None:
            self._open((image.width // 2 * 2, image.height // 2 * 2))
        tick = round(time_s * CLOCK)
        # Ctrl-C may come at any time, and the film be finished then: no frame is written twice.
        before, self.held = self.held, None
        if before is not None and tick > self.held_at:
            self._write(before, self.held_at, tick - self.held_at)
        # A stream whose clock jumps back goes on where it was.
        self.held, self.held_at = image, max(tick, self.held_at)

    def _open(self, size: tuple[int, int]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.temporary.touch()  # FFmpeg would open it, and fail, only some frames later
        self.size = size
        self.container = self._guarded(self.av.open, str(self.temporary), "w", options={"movflags": "+faststart"})
        self.stream = self._encoder()
        if self.sound_of is not None:
            self.sound = Sound.of(self.sound_of, self.container, self.origin)

    def _encoder(self) -> Any:
        there = [name for name in ENCODERS if name in self.av.codecs_available and self._encodes(name)]
        if not there:
            raise OSError(
                f"can't write {self.path}: this PyAV has no H.264 encoder; PyPI's wheels have one (pip install av), "
                "or pass --no-images"
            )
        stream = self.container.add_stream(there[0], rate=Fraction(1 / self.frame_s).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = *self.size, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, CLOCK)
        context.options = dict(ENCODERS[there[0]])
        context.gop_size = max(1, round(KEY_FRAMES / self.frame_s))
        context.colorspace = context.color_primaries = context.color_trc = BT709
        return stream

    def _encodes(self, name: str) -> bool:
        try:
            return bool(self.av.codec.Codec(name, "w").is_encoder)
        except ValueError:  # UnknownCodecError: decodes only
            return False

    def _write(self, image: Image.Image, tick: int, ticks: int) -> None:
        if abs(image.width - self.size[0]) > 1 or abs(image.height - self.size[1]) > 1:
            image = ImageOps.pad(image, self.size)  # a frame that failed has no banner
        pixels = np.ascontiguousarray(np.asarray(image)[: self.size[1], : self.size[0]])
        frame = self.av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.pts, frame.duration, frame.time_base = tick, ticks, Fraction(1, CLOCK)
        self._mux(frame)
        if self.sound is not None:
            self.sound.write_until((tick + ticks) / CLOCK)

    def _mux(self, frame: Any) -> None:
        for packet in self._guarded(self.stream.encode, frame):
            self._guarded(self.container.mux, packet)

    def _guarded(self, work: Any, *arguments: Any, **options: Any) -> Any:
        """FFmpeg's failures as the system's, with the film's name."""
        try:
            return work(*arguments, **options)
        except self.av.error.FFmpegError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def finish(self) -> None:
        """The film is complete."""
        if self.container is None:
            return
        if self.held is not None:
            self._write(self.held, self.held_at, max(1, round(self.frame_s * CLOCK)))
        self._mux(None)
        if self.sound is not None:
            self.sound.close()
        self._guarded(self.container.close)
        self.temporary.replace(self.path)

    def abandon(self) -> None:
        """It won't be: leave nothing behind."""
        if self.sound is not None:
            self.sound.close()
        if self.container is not None:
            with contextlib.suppress(self.av.error.FFmpegError):  # its end can't be written either
                self.container.close()
            self.temporary.unlink(missing_ok=True)
