"""Names of images: how they are found, kept, handed on and shown."""

from __future__ import annotations

from collections.abc import Sequence

from cocoer_client.batch.storage import PLAIN, Storage
from cocoer_client.errors import InvalidInput
from cocoer_client.sources import Found, find


def list_images(inputs: Sequence[str], column: str, storage: Storage = PLAIN) -> tuple[list[str], Found]:
    """Images in a fixed order, each once, by names that do not depend on the current folder; and all that was found.

    Args:
        inputs: folders, files and globs, here, in a bucket or on the web, and Parquet files with a column of names.
        column: its name.
        storage: opens buckets.

    Raises:
        InvalidInput: an input names nothing.
    """
    with storage.configured(inputs):
        found = find(inputs, allow_url=True, column=column, images_only=True, must_exist=True)
    if found.unusable:
        raise InvalidInput(found.unusable[0])
    return [source.url for source in found.sources], found


def encoded(path: str) -> bytes:
    """A path as bytes; names of files need not be text.

    >>> decoded(encoded("a\\udcff.jpg")) == "a\\udcff.jpg"
    True
    """
    return path.encode("utf-8", "surrogateescape")


def decoded(path: bytes) -> str:
    """A path again."""
    return path.decode("utf-8", "surrogateescape")


def shown(path: str) -> str:
    """A path as tables have it, which hold text alone.

    >>> shown("a\\udcff.jpg")
    'a\\\\udcff.jpg'
    """
    return path.encode("utf-8", "backslashreplace").decode()
