"""Frames of a film, a stream or a camera, with the time at which each is shown. Needs PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from cocoer_client.errors import InvalidInput
from cocoer_client.inputs import Pixels
from cocoer_client.optional import pyav
from cocoer_client.sources import Source
from cocoer_client.video.latest import Latest
from cocoer_client.video.opening import matrix_of, open_video, rgb_of, upright, video_streams

TOLERANCE = 1.0
"""Seconds by which a film may end before its stated duration: not all files tell the truth."""
WEB = ("http://", "https://")


@dataclass(frozen=True)
class Frame:
    """One frame that is asked about."""

    index: int
    """From 0, among all of the film's frames."""
    time_s: float
    """Seconds from the film's beginning, as the file says; players show the frame then."""
    pixels: Pixels
    """UINT8 [H, W, 3], RGB, upright."""
    last: bool
    """No other follows."""


class Video:
    """Every ``step``-th frame of a film, a stream or a camera.

    Frames of a live source that come while nobody takes them are dropped but for the newest.

    Args:
        source: of a kind that has frames.
        step: 1: every frame.
        maximum: frames at most; None: all.

    Raises:
        InvalidInput: it can't be opened.
    """

    def __init__(self, source: Source, step: int = 1, maximum: int | None = None) -> None:
        self.step, self.maximum = step, maximum
        self.av = pyav("a video")
        self.container = open_video(source)
        self.stream = video_streams(self.container)[0]
        self.stream.thread_type = "AUTO"
        self.rate = float(self.stream.average_rate or self.stream.guessed_rate or 25)
        """Frames per second, on average."""
        self.duration = self._duration()
        """Seconds, as the file says; None: it does not."""
        endless = source.kind == "stream" and (self.duration is None or not source.name.startswith(WEB))
        self.is_live = source.kind == "camera" or endless
        """Frames come when they come, and waiting for them to be taken would mean lagging behind."""
        self.path = source.name if source.kind == "video" else None
        start = self.container.start_time
        self.origin = None if self.is_live or start is None else start / self.av.time_base
        """Of the container's time, seconds: the film's beginning. None: its first frame's."""
        self.read, self.undecoded, self.broke_off, self.shown_until = 0, 0, False, 0.0
        self.latest: Latest[Any] | None = None

    @property
    def dropped(self) -> int:
        """Frames that came while others were waited for."""
        return self.latest.dropped if self.latest is not None else 0

    def _duration(self) -> float | None:
        if self.stream.duration is not None:
            return float(self.stream.duration * self.stream.time_base)
        if self.container.duration is None or self.container.duration <= 0:
            return None
        return float(self.container.duration) / float(self.av.time_base)

    def expected(self) -> int | None:
        """Frames to come, as far as the file tells; None: not known."""
        if self.is_live:
            return self.maximum
        total = self.stream.frames or round((self.duration or 0) * self.rate)
        if total <= 0:
            return self.maximum
        return min(-(-total // self.step), self.maximum or total)

    def frames(self) -> Iterator[Frame]:
        """The frames.

        Raises:
            InvalidInput: there is none; or, after those that there are, the video breaks off or is damaged. Of such a
                film no frame is ``last``.
        """
        every = self._every()
        if self.is_live:
            self.latest = Latest(every)
            every = iter(self.latest)
        try:
            yield from self._as_frames(every)
        finally:
            if self.latest is not None:
                self.latest.close()
            else:
                self.container.close()

    def _as_frames(self, every: Iterator[tuple[int, float, Any]]) -> Iterator[Frame]:
        # One ahead, to know the last.
        previous: Frame | None = None
        count = 0
        for index, time_s, decoded in every:
            if previous is not None:
                yield previous
            pixels = upright(rgb_of(decoded), matrix_of(decoded))
            previous = Frame(index, round(time_s, 3), pixels, last=False)
            count += 1
            if count == self.maximum:
                break
        problem = "" if count == self.maximum else self._problem()
        if previous is None:
            raise InvalidInput(problem or "the video has no frame")
        yield replace(previous, last=not problem)
        if problem:
            raise InvalidInput(problem)

    def _problem(self) -> str:
        """Why what there was is not all; empty where it is."""
        if self.is_live:
            return "the stream broke off" if self.broke_off else ""
        duration = self.duration or 0.0
        short = self.shown_until < duration - min(TOLERANCE, duration / 4)
        if self.broke_off or short:
            of = f" of {duration:.1f}" if duration else ""
            return f"the video breaks off after {self.shown_until:.1f}{of} s; the file is damaged or not all of it"
        if self.undecoded:
            return f"{self.undecoded} of {self.read} frames are damaged and are missing"
        return ""

    def _every(self) -> Iterator[tuple[int, float, Any]]:
        """Index, time in seconds and decoded frame of every ``step``-th."""
        for index, decoded in enumerate(self._decoded()):
            # Raw streams have no times.
            time_s = index / self.rate if decoded.pts is None else float(decoded.pts * self.stream.time_base)
            if self.origin is None:
                self.origin = time_s
            self.shown_until = time_s - self.origin + 1 / self.rate
            if index % self.step == 0:
                yield index, time_s - self.origin, decoded

    def _decoded(self) -> Iterator[Any]:
        failure = self.av.error.FFmpegError
        begun = False
        for packet in self._packets():
            try:
                frames = self.stream.codec_context.decode(packet)
            except failure:
                self.undecoded += begun  # a recording may begin between two key frames
                continue
            begun = begun or bool(frames)
            yield from frames

    def _packets(self) -> Iterator[Any]:
        """The stream's packets, then None, which has the decoder give what it holds."""
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:
                    self.read += 1
                    self.broke_off = packet.is_corrupt  # the file ends in it, unless another follows
                    yield packet
        except self.av.error.FFmpegError:
            self.broke_off = True
        yield None
