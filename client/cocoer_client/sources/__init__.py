"""What a user names (files, folders, globs, ``-``, URLs, streams, cameras, buckets, tables) as a list of sources.

``find`` looks: here with ``local`` (on ``folders`` and ``globs``), in buckets with ``buckets`` (needs fsspec), in
Parquet files of names with ``tables`` (needs PyArrow). What it finds is a ``Found``: sources, ``left_out``, problems.
``source`` and ``reading`` are one of them and its bytes, ``formats`` tells images by their names, ``targets`` looks at
the files that a command would write. All commands look with this; it knows nothing of servers.
"""

from cocoer_client.sources.find import find, find_sources
from cocoer_client.sources.formats import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from cocoer_client.sources.found import Found, LeftOut
from cocoer_client.sources.reading import read_named
from cocoer_client.sources.source import CAMERA, Source

__all__ = [
    "CAMERA",
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Found",
    "LeftOut",
    "Source",
    "find",
    "find_sources",
    "read_named",
]
