"""Which name each annotated image or video gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cocoer_client.sources import Source


class Names:
    """A path for each annotated image: none is an input, none is given twice.

    Args:
        directory: where they go.
        inputs: what must not be overwritten.
        given: file -> image, from an earlier run.
    """

    def __init__(self, directory: Path, inputs: Iterable[str], given: Mapping[str, str]) -> None:
        self.directory, self.given = directory, given
        self.taken = {Path(name).resolve() for name in (*inputs, *given.values())}

    def of(self, source: Source) -> Path:
        """The same as in the earlier run, if that had one."""
        suffix = ".mp4" if source.is_video else ".png"
        if (given := Path(self.given.get(source.name, ""))).suffix == suffix:
            return given
        stem = self.directory / source.target
        path, count = stem.with_name(stem.name + suffix), 2
        while path.resolve() in self.taken:
            path = stem.with_name(f"{stem.name}-{count}{suffix}")
            count += 1
        self.taken.add(path.resolve())
        return path
