"""Which name each annotated image or video gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cocoer_client.drawing.formats import ImageFormat, suffix_of
from cocoer_client.files import NAME_MAX, RealPaths, shortened
from cocoer_client.sources import Source

ROOM = 12
"""Bytes for a number and a suffix."""


class Names:
    """A path for each annotated image: none is an input, none is given twice.

    Args:
        directory: where they go.
        inputs: what must not be overwritten.
        given: file -> image, from an earlier run.
        image_format: of the images, which decides the suffix.
    """

    def __init__(
        self, directory: Path, inputs: Iterable[str], given: Mapping[str, str], image_format: ImageFormat = "auto"
    ) -> None:
        self.directory, self.given, self.image_format = directory, given, image_format
        self.real = RealPaths()
        self.counts: dict[Path, int] = {}
        """Path -> the number that the next of its name gets."""
        self.taken = {self.real.of(name) for name in (*inputs, *given.values())}

    def of(self, source: Source) -> Path:
        """The same as in the earlier run, if that had one of this format."""
        suffix = ".mp4" if source.is_video else suffix_of(source.name, self.image_format)
        given = Path(self.given.get(source.name, ""))
        if given.suffix == suffix:
            return given
        stem = self.directory / source.target
        name = shortened(stem.name, NAME_MAX - ROOM)
        path = first = stem.with_name(name + suffix)
        count = self.counts.get(first, 2)
        while (real := self.real.of(path)) in self.taken:
            path = stem.with_name(f"{name}-{count}{suffix}")
            count += 1
        self.counts[first] = count
        self.taken.add(real)
        return path
