"""A film's sound, carried over into its annotated film. Needs PyAV."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from cocoer_client.optional import pyav

logger = logging.getLogger(__name__)

AS_IT_IS = ("aac",)
"""Codecs whose packets are copied; others are decoded, and encoded as AAC."""


class Sound:
    """The first audio stream of a film, read a second time and only as far as the frames are.

    Args:
        source: PyAV's container to read from.
        stream: its audio stream.
        target: PyAV's container to write to.
        origin: the film's beginning, in the container's time, seconds.
    """

    def __init__(self, source: Any, stream: Any, target: Any, origin: float) -> None:
        self.av = pyav("sound")
        self.source, self.stream, self.target = source, stream, target
        self.copies = stream.codec_context.name in AS_IT_IS
        if self.copies:
            self.output = target.add_stream_from_template(stream)
        else:
            self.output = target.add_stream("aac", rate=stream.codec_context.sample_rate or 48_000)
            self.output.layout = stream.codec_context.layout.name
        self.shift = round(origin / stream.time_base)
        self.packets: Iterator[Any] = source.demux(stream)
        self.waiting: Any = None

    @classmethod
    def of(cls, path: str, target: Any, origin: float) -> Sound | None:
        """A film's; None where it has none that can be read."""
        av = pyav("sound")
        try:
            source = av.open(f"file:{path}")
            audio = [stream for stream in source.streams.audio if stream.codec_context is not None]
            if not audio or not audio[0].codec_context.sample_rate:
                source.close()
                return None
            return cls(source, audio[0], target, origin)
        except (av.error.FFmpegError, ValueError) as error:
            logger.warning("no sound of %s: %s", path, error)
            return None

    def write_until(self, time_s: float) -> None:
        """Write what is heard before a time, in seconds from the film's beginning."""
        try:
            while self._next() is not None and self._begins(self.waiting) < time_s:
                self._write(self.waiting)
                self.waiting = None
        except self.av.error.FFmpegError as error:
            # The frames are what the film is for.
            logger.warning("the sound breaks off: %s", error)
            self.packets, self.waiting = iter(()), None

    def _next(self) -> Any:
        while self.waiting is None:
            packet = next(self.packets, None)
            if packet is None:
                return None
            if packet.size and packet.pts is not None:
                self.waiting = packet
        return self.waiting

    def _begins(self, packet: Any) -> float:
        return float((packet.pts - self.shift) * self.stream.time_base)

    def _write(self, packet: Any) -> None:
        if self.copies:
            packet.pts -= self.shift
            packet.dts = None if packet.dts is None else packet.dts - self.shift
            packet.stream = self.output
            self.target.mux(packet)
            return
        for frame in packet.decode():
            frame.pts -= self.shift
            self.target.mux(self.output.encode(frame))

    def close(self) -> None:
        """No more comes."""
        try:
            if not self.copies:
                self.target.mux(self.output.encode(None))
        except self.av.error.FFmpegError as error:
            logger.warning("the sound breaks off: %s", error)
        self.source.close()
