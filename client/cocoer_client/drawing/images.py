"""Annotated images: which name each gets, and drawing it from an image's bytes or a frame."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cocoer_client.drawing.draw import annotate
from cocoer_client.drawing.release_style import annotate_as_release
from cocoer_client.errors import InvalidInput
from cocoer_client.infer.outputs import replace_file
from cocoer_client.infer.report import shown_warnings
from cocoer_client.inputs import upright
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
        if source.name in self.given:
            return Path(self.given[source.name])
        suffix = ".mp4" if source.is_video else ".png"
        stem = self.directory / source.target
        path, count = stem.with_name(stem.name + suffix), 2
        while path.resolve() in self.taken:
            path = stem.with_name(f"{stem.name}-{count}{suffix}")
            count += 1
        self.taken.add(path.resolve())
        return path


def open_upright(image: bytes | np.ndarray) -> Image.Image:
    """An image as the server sees it: RGB, turned by its EXIF orientation."""
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    with Image.open(io.BytesIO(image)) as opened:
        opened.load()
        turned = upright(opened)
    if turned.mode.startswith("I"):  # 16 bits, which Pillow would clip
        turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    return turned.convert("RGB")


def draw(
    image: bytes | np.ndarray, result: Mapping[str, Any], style: str, boxes_given: bool, fixed_size: bool = False
) -> Image.Image:
    """The annotated image.

    Args:
        image: the file's bytes, or a frame (RGB).
        result: the RESULT object.
        style: ``panel`` or ``release``.
        boxes_given: the detector's warnings are left out.
        fixed_size: see ``annotate``.
    """
    warnings = shown_warnings(result, boxes_given)
    try:
        canvas = open_upright(image)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidInput(f"the server can read this image, this machine's Pillow can't: {error}") from error
    if style == "release":
        return annotate_as_release(canvas, result, warnings)
    return annotate(canvas, result, warnings, fixed_size)


def save_png(image: Image.Image, path: Path) -> None:
    """Write atomically."""
    replace_file(path, lambda temporary: image.save(temporary, format="PNG"))
