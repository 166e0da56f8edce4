"""Annotated films: H.264 in MP4 that can be played from its first bytes on, in step with the source, with its sound."""

import subprocess
import sys
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from cocoer_client.sources import Source
from cocoer_client.video import file as video_file
from cocoer_client.video.file import VideoFile
from cocoer_client.video.frames import Video
from tests.conftest import PROJECT
from tests.films import moving, write_film

SIDE = 64
TIMES = [0.0, 0.1, 0.2, 0.7, 0.75, 2.0]


def write(path, times=TIMES, size=(SIDE, SIDE), frame_s=0.1, **sound):
    written = VideoFile(path, frame_s, **sound)
    pixels = moving(len(times), max(size))
    for frame, time in zip(pixels, times):
        written.add(Image.fromarray(frame[: size[1], : size[0]]), time)
    written.finish()
    return pixels


def shown(path):
    """Times and pixels."""
    frames = Video(Source(str(path), "video", path)).frames()
    return [(frame.time_s, frame.pixels) for frame in frames]


def test_a_browsers_film(tmp_path):
    """What a browser wants of it; and the times are those given, the last frame's duration included."""
    pixels = write(tmp_path / "out" / "a.mp4")
    frames = shown(tmp_path / "out" / "a.mp4")
    assert [time for time, _ in frames] == pytest.approx(TIMES, abs=1e-3)
    for (_, got), given in zip(frames, pixels):
        assert np.abs(got.astype(int) - given).mean() < 8
    data = (tmp_path / "out" / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"avc1" in data
    with av.open(str(tmp_path / "out" / "a.mp4")) as container:
        stream: Any = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.duration * stream.time_base) == pytest.approx(2.1, abs=1e-3)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mp4"]


def test_colours_stay(tmp_path):
    write_colours = VideoFile(tmp_path / "a.mp4", 0.1)
    colours = [(200, 30, 30), (30, 160, 30), (40, 60, 200)]
    for index, colour in enumerate(colours):
        write_colours.add(Image.new("RGB", (SIDE, SIDE), colour), index / 10)
    write_colours.finish()
    for (_, got), colour in zip(shown(tmp_path / "a.mp4"), colours):
        assert got.mean(axis=(0, 1)) == pytest.approx(colour, abs=4)


def test_sizes(tmp_path):
    """Codecs take even sizes; a frame of another size is fitted in."""
    written = VideoFile(tmp_path / "a.mp4", 0.1)
    for index, size in enumerate([(65, 49), (65, 49), (65, 30), (200, 49)]):
        written.add(Image.new("RGB", size, "red"), index / 10)
    written.finish()
    assert {pixels.shape for _, pixels in shown(tmp_path / "a.mp4")} == {(48, 64, 3)}


def test_a_clock_that_jumps_back(tmp_path):
    write(tmp_path / "a.mp4", [0.0, 5.1, 0.2, 0.3, 5.2])
    assert [time for time, _ in shown(tmp_path / "a.mp4")] == pytest.approx([0.0, 5.1, 5.2], abs=1e-3)


@pytest.mark.parametrize(("codec", "suffix", "start"), [("aac", "mp4", 0), ("aac", "ts", 5), ("libvorbis", "mkv", 0)])
def test_sound_goes_along(tmp_path, codec, suffix, start):
    """AAC packet by packet, other codecs as AAC; it begins where it did, and ends with the pictures."""
    source = write_film(tmp_path / f"a.{suffix}", moving(41, SIDE), sound=codec, start=float(start))
    origin = 0.0
    with av.open(str(source)) as container:
        origin = container.start_time / av.time_base
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    write(tmp_path / "out.mp4", [0.0, 1.0, 2.0], frame_s=1.0, sound_of=str(source), origin=origin)
    with av.open(str(tmp_path / "out.mp4")) as container:
        audio: Any = container.streams.audio[0]
        assert audio.codec_context.name == "aac"
        got: list[Any] = [packet for packet in container.demux(audio) if packet.size]
        assert float(got[-1].pts * got[-1].time_base) == pytest.approx(3, abs=0.1)
        assert float(got[0].pts * got[0].time_base) == pytest.approx(0, abs=0.1)
        if (codec, suffix) == ("aac", "mp4"):
            assert [bytes(packet) for packet in got] == packets[: len(got)]
    with av.open(str(tmp_path / "out.mp4")) as container:
        wave = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    spectrum = np.abs(np.fft.rfft(wave[48_000:96_000]))
    assert spectrum.argmax() == 440


def test_no_sound(tmp_path):
    source = write_film(tmp_path / "a.mp4", moving(5, SIDE))
    write(tmp_path / "out.mp4", sound_of=str(source))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio


def test_a_film_that_is_given_up(tmp_path):
    written = VideoFile(tmp_path / "a.mp4", 0.1)
    written.add(Image.new("RGB", (SIDE, SIDE)), 0)
    written.abandon()
    assert list(tmp_path.iterdir()) == []
    VideoFile(tmp_path / "b.mp4", 0.1).finish()
    VideoFile(tmp_path / "b.mp4", 0.1).abandon()
    assert list(tmp_path.iterdir()) == []


def test_interrupted_at_any_time(tmp_path, monkeypatch):
    """A camera's film is finished after Ctrl-C, which may come when a frame has just been written."""
    written, pixels = VideoFile(tmp_path / "a.mp4", 0.1), moving(4, SIDE)
    for index in range(3):
        written.add(Image.fromarray(pixels[index]), index / 10)
    write_it = written._write

    def interrupted(*arguments):
        write_it(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(written, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        written.add(Image.fromarray(pixels[3]), 0.3)
    monkeypatch.undo()
    written.finish()
    assert [time for time, _ in shown(tmp_path / "a.mp4")] == pytest.approx([0, 0.1, 0.2], abs=1e-3)


def test_where_it_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    written = VideoFile(tmp_path / "file" / "a.mp4", 0.1)
    with pytest.raises(OSError, match="file"):
        written.add(Image.new("RGB", (SIDE, SIDE)), 0)
    written.abandon()


def test_other_encoders(tmp_path, monkeypatch):
    """A PyAV without x264 has another encoder, or it is said what to do."""
    monkeypatch.setattr(video_file, "ENCODERS", {"libx265000": {}, "libopenh264": {}})
    write(tmp_path / "a.mp4", size=(320, 240))
    assert len(shown(tmp_path / "a.mp4")) == len(TIMES)
    monkeypatch.setattr(video_file, "ENCODERS", {"libx265000": {}})
    with pytest.raises(OSError, match=r"this PyAV has no H\.264 encoder; .*--no-images"):
        write(tmp_path / "b.mp4")


def test_nothing_is_said(tmp_path):
    """FFmpeg and x264 keep their lines to themselves."""
    code = (
        "import sys; from pathlib import Path; from PIL import Image; from cocoer_client.video.file import VideoFile\n"
        "film = VideoFile(Path(sys.argv[1]), 0.1)\n"
        "[film.add(Image.new('RGB', (64, 64)), index / 10) for index in range(3)]\n"
        "film.finish()"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.mp4")], cwd=PROJECT, capture_output=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
