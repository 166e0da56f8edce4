"""Films made of the sample image: moving, cut, crossing, of variable frame rate, turned, truncated, with sound."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from tests.conftest import SAMPLE

CLOCK = 90_000
TURNED_90 = (0, 1, 0, -1, 0, 0, 0, 0, 1)
"""A display matrix: shown turned clockwise by 90 degrees, as telephones held upright say."""


def sample(side: int = 512) -> np.ndarray:
    """The sample image: UINT8 [side, side, 3], RGB."""
    with Image.open(SAMPLE) as image:
        return np.asarray(image.convert("RGB").resize((side, side)))


def moving(count: int, side: int = 512, step: int = 3) -> list[np.ndarray]:
    """The sample moving to the right by ``step`` pixels a frame."""
    pixels = sample(side)
    return [np.roll(pixels, step * index, axis=1) for index in range(count)]


def write_film(
    path: Path,
    frames: Iterable[np.ndarray],
    times: Sequence[float] | float = 10.0,
    codec: str = "libx264",
    sound: str | None = None,
    start: float = 0.0,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """A film.

    Args:
        path: the file; its suffix says the container.
        frames: UINT8 [H, W, 3], RGB, of even sizes.
        times: seconds of each frame; or frames per second.
        codec: of the pictures.
        sound: a codec; a tone goes along.
        start: of all, in the container's time, seconds.
        container_options: FFmpeg's.
    """
    frames = list(frames)
    if isinstance(times, float):
        times = [index / times for index in range(len(frames))]
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        stream: Any = container.add_stream(codec, rate=Fraction(30))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, CLOCK if codec != "mpeg4" else 30)
        stream.codec_context.gop_size = 8
        if codec == "libx264":
            stream.codec_context.options = {"preset": "ultrafast", "crf": "10"}
        audio = _tone(container, sound, times[-1]) if sound else iter(())
        for pixels, time in zip(frames, times):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round((time + start) / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for packets in audio:
            container.mux(packets)
    return path


def _tone(container: Any, codec: str, seconds: float) -> Iterator[Any]:
    rate = 48_000
    stream = container.add_stream(codec, rate=rate)
    stream.layout = "mono"
    context = stream.codec_context
    context.open()
    size = context.frame_size or 1024
    wave = (np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 440 / rate) * 8000).astype(np.int16)

    def packets() -> Iterator[Any]:
        resampler = av.AudioResampler(format=context.format, layout="mono", rate=rate)
        for begin in range(0, len(wave) - size, size):
            frame = av.AudioFrame.from_ndarray(wave[None, begin : begin + size], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
            for converted in resampler.resample(frame):
                yield stream.encode(converted)
        yield stream.encode(None)

    return packets()


def turn(path: Path, matrix: Sequence[int] = TURNED_90) -> Path:
    """Write a display matrix into an MP4 file's track header."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    fixed = [value << (30 if index % 3 == 2 else 16) for index, value in enumerate(matrix)]
    data[at : at + 36] = struct.pack(">9i", *fixed)
    path.write_bytes(data)
    return path


def truncate(path: Path, share: float) -> Path:
    """Cut a file off."""
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * share)])
    return path


def trim(path: Path, start: float, seconds: float) -> Path:
    """Have an MP4 file show a part of it alone, by its edit list, as telephones trim."""
    data = bytearray(path.read_bytes())
    (of_film,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)
    (of_track,) = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)
    struct.pack_into(">Ii", data, data.index(b"elst") + 12, round(seconds * of_film), round(start * of_track))
    path.write_bytes(data)
    return path
