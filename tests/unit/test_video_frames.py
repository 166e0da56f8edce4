"""Reading films: times, turns, steps; what is none, breaks off or is damaged; live sources."""

import functools
import http.server
import sys
import threading
import tracemalloc
from pathlib import PurePath
from typing import Any

import av
import numpy as np
import pytest

from cocoer_client.errors import InvalidInput
from cocoer_client.sources import Source
from cocoer_client.video import opening
from cocoer_client.video.frames import Video
from cocoer_client.video.latest import Latest
from cocoer_client.video.opening import upright
from tests.films import TURNED_90, moving, trim, truncate, turn, write_film
from tests.waiting import PATIENCE

SIDE = 64


def film(path, kind="video"):
    return Source(str(path), kind, PurePath(path.stem))


def read(path, step=1, maximum=None):
    return list(Video(film(path), step, maximum).frames())


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts", "a.webm"])
def test_times_are_the_files(tmp_path, name):
    """A variable frame rate, as telephones have it, and in a transport stream a beginning that is not 0."""
    times = [0.0, 0.1, 0.2, 0.7, 0.75, 0.8, 2.0, 2.1]
    codec = "libvpx" if name.endswith("webm") else "libx264"
    write_film(tmp_path / name, moving(8, SIDE), times, codec, start=7.0 if name.endswith("ts") else 0.0)
    frames = read(tmp_path / name)
    assert [frame.time_s for frame in frames] == pytest.approx(times, abs=2e-3)
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.last for frame in frames] == [False] * 7 + [True]


def test_every_third_frame_and_a_limit(tmp_path):
    path = write_film(tmp_path / "a.mp4", moving(20, SIDE))
    video = Video(film(path), 3, 5)
    assert video.expected() == 5
    frames = list(video.frames())
    assert [frame.index for frame in frames] == [0, 3, 6, 9, 12]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.3, 0.6, 0.9, 1.2])
    assert frames[-1].last
    assert Video(film(path), 3).expected() == 7
    assert len(read(path, 3)) == 7


def test_frames_are_what_was_filmed(tmp_path):
    shown = moving(4, SIDE)
    path = write_film(tmp_path / "a.mp4", shown)
    for frame, pixels in zip(read(path), shown):
        assert np.abs(frame.pixels.astype(int) - pixels).mean() < 12


def test_a_turned_film_is_upright(tmp_path):
    pixels = moving(1, SIDE)[0]
    pixels = pixels[:, :48]
    path = turn(write_film(tmp_path / "a.mp4", [pixels] * 3))
    frame = read(path)[0].pixels
    assert frame.shape == (48, SIDE, 3)
    assert np.abs(frame.astype(int) - np.rot90(pixels, -1)).mean() < 12


def test_turns_and_mirrors():
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    matrices = {
        (1, 0, 0, 0, 1, 0, 0, 0, 1): pixels,
        TURNED_90: np.rot90(pixels, -1),
        (-1, 0, 0, 0, -1, 0, 0, 0, 1): np.rot90(pixels, 2),
        (0, -1, 0, 1, 0, 0, 0, 0, 1): np.rot90(pixels),
        (-1, 0, 0, 0, 1, 0, 0, 0, 1): pixels[:, ::-1],
        (1, 0, 0, 0, -1, 0, 0, 0, 1): pixels[::-1],
        (0, 1, 0, 1, 0, 0, 0, 0, 1): pixels.transpose(1, 0, 2),
    }
    for matrix, expected in matrices.items():
        np.testing.assert_array_equal(upright(pixels, np.array(matrix) << 16), expected)


@pytest.mark.parametrize(
    ("name", "share", "message"),
    [
        ("a.mp4", 0.5, r"the video breaks off after 1\.\d of 3\.9 s; the file is damaged or not all of it"),
        ("short.mp4", 0.5, r"the video breaks off after 0\.\d of 1\.1 s; "),
        ("a.mkv", 0.4, r"the video breaks off after 1\.\d of 3\.9 s; "),
        ("late.mp4", 0.5, "not a video that FFmpeg can read, or its beginning alone"),
    ],
)
def test_a_film_that_breaks_off(tmp_path, capfd, name, share, message):
    """What there is of it comes, none of it is the last, and it is said; FFmpeg's own lines are not."""
    options = {} if name in ("late.mp4", "a.mkv") else {"movflags": "faststart"}
    frames = moving(12 if name == "short.mp4" else 40, SIDE)
    path = truncate(write_film(tmp_path / name, frames, container_options=options), share)
    got = []
    with pytest.raises(InvalidInput, match=message):
        got.extend(Video(film(path)).frames())
    assert not any(frame.last for frame in got)
    assert capfd.readouterr() == ("", "")
    if name == "late.mp4":
        return
    assert len(got) > len(frames) / 4
    # Who wants no more than there is, has all of it.
    assert read(path, maximum=3)[-1].last


def test_a_trimmed_film_is_whole(tmp_path):
    """Telephones trim by an edit list: the file has more frames than are shown."""
    path = trim(write_film(tmp_path / "a.mp4", moving(40, SIDE)), 2.0, 1.0)
    frames = read(path)
    assert [frame.time_s for frame in frames] == pytest.approx([index / 10 for index in range(10)], abs=1e-3)
    assert frames[-1].last


def test_damage_in_the_middle(tmp_path):
    path = write_film(tmp_path / "a.mp4", moving(40, 2 * SIDE))
    with av.open(str(path)) as container:
        packets: list[Any] = [packet for packet in container.demux(video=0) if packet.size]
        key = [packet for packet in packets if packet.is_keyframe][2]
        place, size = key.pos, key.size
    data = bytearray(path.read_bytes())
    data[place : place + size] = bytes(size)
    path.write_bytes(data)
    got = []
    with pytest.raises(InvalidInput, match=r"\d+ of 40 frames are damaged and are missing"):
        got.extend(Video(film(path)).frames())
    assert got[-1].index > 20


def test_what_is_no_film(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "folder.mp4").mkdir()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        stream.layout, frame.sample_rate, frame.pts = "mono", 48_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "none.avi"), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = SIDE
        container.start_encoding()
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n")
    no_film = "not a video that FFmpeg can read, or its beginning alone"
    messages = {
        "text.mp4": no_film,
        "empty.mp4": no_film,
        "folder.mp4": "Is a directory",
        "absent.mp4": "No such file or directory",
        "sound.mp4": "there is only sound in it",
        "none.avi": "the video has no frame",
        "list.mp4": no_film,
    }
    for name, message in messages.items():
        with pytest.raises(InvalidInput) as error:
            read(tmp_path / name)
        assert str(error.value) == message, name
    with pytest.raises(InvalidInput, match="no such camera"):
        Video(Source("camera:97", "camera", PurePath("camera-97")))
    with pytest.raises(InvalidInput, match="this stream can't be opened: Connection refused"):
        Video(Source("rtsp://127.0.0.1:9/live", "stream", PurePath("live")))


def test_memory_does_not_grow_with_the_film(tmp_path):
    """One frame ahead is held, whatever the film's length."""
    side = 320
    path = write_film(tmp_path / "a.mp4", moving(40, side))
    tracemalloc.start()
    count = sum(1 for _ in Video(film(path)).frames())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 40
    assert peak < 10 * 3 * side**2


def test_a_camera(monkeypatch):
    """FFmpeg's own source of test frames in the place of a camera."""
    device = "testsrc=size=64x48:rate=50,realtime,setpts=PTS+9/TB"
    monkeypatch.setitem(opening.CAMERA_FORMATS, sys.platform, ("lavfi", device))
    video = Video(Source("camera:2", "camera", PurePath("camera-2")), step=3, maximum=5)
    assert video.is_live
    assert video.expected() == 5
    frames = list(video.frames())
    assert len(frames) == 5
    assert [frame.last for frame in frames] == [False] * 4 + [True]
    assert frames[0].pixels.shape == (48, 64, 3)
    assert all(frame.index % 3 == 0 for frame in frames)
    assert [frame.time_s for frame in frames] == pytest.approx([frame.index / 50 for frame in frames], abs=1e-3)


def test_a_film_on_the_web(tmp_path):
    """It has an end, so that it is read at its own pace; a file's list of addresses is another thing."""
    write_film(tmp_path / "a.mp4", moving(12, SIDE), container_options={"movflags": "faststart"})
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as website:
        threading.Thread(target=website.serve_forever, args=(0.02,), daemon=True).start()
        name = f"http://127.0.0.1:{website.server_port}/a.mp4"
        video = Video(Source(name, "stream", PurePath("a")))
        assert not video.is_live
        assert len(list(video.frames())) == 12
        with pytest.raises(InvalidInput, match="this stream can't be opened: Server returned 404 Not Found"):
            Video(Source(name.replace("a.mp4", "b.mp4"), "stream", PurePath("b")))
        website.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_a_live_source_drops_what_nobody_takes():
    taken, come = threading.Semaphore(0), threading.Event()

    def source():
        yield 0
        taken.acquire(timeout=PATIENCE)
        yield from range(1, 100)
        come.set()
        taken.acquire(timeout=PATIENCE)
        yield 100

    latest = Latest(source())
    items = iter(latest)
    assert next(items) == 0
    taken.release()
    assert come.wait(PATIENCE)
    assert next(items) == 99
    taken.release()
    assert list(items) == [100]
    assert latest.dropped == 98


def test_a_live_source_that_fails():
    def source():
        yield 1
        raise InvalidInput("gone")

    items = iter(Latest(source()))
    with pytest.raises(InvalidInput, match="gone"):
        for _ in items:
            pass
