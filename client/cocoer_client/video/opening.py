"""Opening what has frames: a file, a stream, a camera. Needs PyAV."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from cocoer_client.errors import InvalidInput
from cocoer_client.optional import pyav
from cocoer_client.sources import CAMERA, Source

TIMEOUT = 15.0
"""Seconds that a stream may be silent."""
FROM_DISK = "file,crypto,data"
FROM_NETWORK = "http,https,tcp,tls,udp,rtp,rtsp,rtsps,rtmp,rtmps,srt,crypto,data,httpproxy"
CAMERA_FORMATS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("vfwcap", "{}")}
"""Platform -> FFmpeg's name of its cameras' format, and of camera N in it."""
MATRIX = "DISPLAYMATRIX"
BT709, UNSPECIFIED, BT601, FULL_RANGE = 1, 2, 5, 2
"""FFmpeg's numbers of colour spaces, and of a colour range."""
HD_HEIGHT = 720
"""Films at least so high that don't name their colour space have that of HD."""


def open_video(source: Source) -> Any:
    """PyAV's container of a source, which has a video stream.

    Raises:
        InvalidInput: why it can't be opened, in one sentence that does not repeat the name.
    """
    av = pyav("a video")
    av.logging.set_level(None)  # FFmpeg's own lines would go to standard error
    try:
        container = _open(av, source)
    except av.error.FFmpegError as error:
        raise InvalidInput(_why(av, source, error)) from error
    if not video_streams(container):
        has_sound = bool(container.streams.audio)
        container.close()
        raise InvalidInput("there is only sound in it" if has_sound else "there is no video in it")
    return container


def video_streams(container: Any) -> list[Any]:
    """Its video streams, without covers."""
    attached = pyav("a video").stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & attached]


def _open(av: Any, source: Source) -> Any:
    if source.kind == "camera":
        name, device = CAMERA_FORMATS.get(sys.platform, CAMERA_FORMATS["linux"])
        return av.open(device.format(source.name[len(CAMERA) :]), format=name, timeout=TIMEOUT)
    if source.kind == "stream":
        # Over TCP, since lost packets of UDP are torn frames.
        options = {"protocol_whitelist": FROM_NETWORK, "rtsp_transport": "tcp"}
        return av.open(source.name, options=options, timeout=TIMEOUT)
    if not os.path.exists(source.name):
        raise InvalidInput("No such file or directory")
    # What is named like a film may be a list of addresses; a file fetches nothing.
    return av.open(f"file:{source.name}", options={"protocol_whitelist": FROM_DISK})


def _why(av: Any, source: Source, error: Any) -> str:
    if source.kind == "camera":
        missing = isinstance(error, (av.error.FileNotFoundError, av.error.ValueError, av.error.ExitError))
        return "no such camera" if missing else f"this camera can't be opened: {error.strerror}"
    if source.kind == "stream":
        return f"this stream can't be opened: {error.strerror}"
    if isinstance(error, (av.error.PermissionError, av.error.IsADirectoryError)):
        return str(error.strerror)
    return "not a video that FFmpeg can read, or its beginning alone"


def rgb_of(frame: Any) -> npt.NDArray[np.uint8]:
    """A decoded frame's pixels, UINT8 [H, W, 3], by the colour space and range that it names."""
    is_hd = frame.colorspace == UNSPECIFIED and frame.height >= HD_HEIGHT
    space = BT709 if frame.colorspace == BT709 or is_hd else BT601
    # PyAV looks at the source's space only where the target's space or range is another.
    converted = frame.reformat(
        format="rgb24",
        src_colorspace=space,
        dst_colorspace=BT601,
        src_color_range=frame.color_range,
        dst_color_range=FULL_RANGE,
    )
    pixels: npt.NDArray[np.uint8] = converted.to_ndarray()
    return pixels


def upright(pixels: npt.NDArray[np.uint8], matrix: npt.NDArray[np.int32] | None) -> npt.NDArray[np.uint8]:
    """A frame turned and mirrored as its display matrix says; what is no right angle goes to the nearest.

    Args:
        pixels: UINT8 [H, W, 3].
        matrix: INT32 [9], FFmpeg's; None: as it is.

    >>> turned = upright(np.arange(6, dtype=np.uint8).reshape(2, 3, 1), np.array([0, 1, 0, -1, 0, 0, 0, 0, 1]))
    >>> turned[..., 0].tolist()  # clockwise by 90 degrees
    [[3, 0], [4, 1], [5, 2]]
    """
    if matrix is None:
        return pixels
    (right_x, right_y), (down_x, down_y) = matrix[0:2], matrix[3:5]
    across, along = right_x, down_y
    if abs(int(right_x)) < abs(int(right_y)):
        pixels = pixels.transpose(1, 0, 2)
        across, along = down_x, right_y
    turned = pixels[:: -1 if along < 0 else 1, :: -1 if across < 0 else 1]
    return np.ascontiguousarray(turned)


def matrix_of(frame: Any) -> npt.NDArray[np.int32] | None:
    """A decoded frame's display matrix, if it has one."""
    data = frame.side_data.get(MATRIX)
    return None if data is None else np.frombuffer(bytes(data), dtype=np.int32)
