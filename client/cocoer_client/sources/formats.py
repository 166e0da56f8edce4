"""Images and videos by their names' ends, and what other images are called."""

from __future__ import annotations

import os
import re

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
PLAYLIST_SUFFIXES = (".m3u8",)
"""Of a stream over HTTP."""

OTHER_IMAGES = {
    "HEIC": (".heic", ".heif", ".hif"),
    "AVIF": (".avif",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "RAW": (
        *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef"),
        *(".raw", ".rwl", ".srw", ".x3f", ".3fr", ".erf", ".kdc", ".mrw"),
    ),
    "JPEG 2000": (".jp2", ".j2k", ".jpf", ".jpx"),
    "JPEG XL": (".jxl",),
    "PSD": (".psd", ".psb"),
    "SVG": (".svg", ".svgz"),
}
"""Format -> its suffixes. Servers don't read them (HEIC and AVIF where they are told to)."""
_FORMATS = {suffix: name for name, suffixes in OTHER_IMAGES.items() for suffix in suffixes}


STREAMS = ("rtsp", "rtsps", "rtmp", "rtmps", "udp", "srt")
"""Protocols of streams."""


def is_stream(url: str) -> bool:
    """Whether a URL is a video's, rather than an image's.

    >>> is_stream("rtsp://camera/1"), is_stream("https://h/film.MP4?x=1"), is_stream("https://h/1.jpg")
    (True, True, False)
    """
    scheme, separator, rest = url.partition("://")
    path = re.split(r"[?#]", rest, maxsplit=1)[0]
    web = scheme.lower() in ("http", "https") and suffix_of(path) in VIDEO_SUFFIXES + PLAYLIST_SUFFIXES
    return bool(separator) and (scheme.lower() in STREAMS or web)


def suffix_of(name: str) -> str:
    """In small letters, with its dot; empty where there is none.

    >>> suffix_of("deep.er/IMG.JPG"), suffix_of("deep.er/.jpg")
    ('.jpg', '')
    """
    return os.path.splitext(name)[1].lower()


def is_image(name: str) -> bool:
    """Whether a file is named like an image that every server reads."""
    return suffix_of(name) in IMAGE_SUFFIXES


def is_video(name: str) -> bool:
    """Whether a file is named like a video."""
    return suffix_of(name) in VIDEO_SUFFIXES


def other_format(name: str) -> str:
    """The format of an image that servers don't read; empty for what is none.

    >>> other_format("IMG_1.HEIC"), other_format("notes.txt")
    ('HEIC', '')
    """
    return _FORMATS.get(suffix_of(name), "")
