"""The images that are sent: the whole one with the person in a red box, the body, the head.

Cut by RESULT's boxes from the upright image, at full resolution: what the network saw of each level, before it was
resized to 224 x 224 pixels. Every mode sends the same bytes of a level.

Colour profiles are left alone, as the server leaves them: neither are pixels converted to sRGB nor is the profile sent.
Network and model are to be compared on the same numbers, and models don't read profiles. Nothing else of the file's own
information is sent either.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from cocoer_client.errors import InvalidInput
from cocoer_client.protocol import Level
from cocoer_client.vlm.collage import side_by_side
from cocoer_client.vlm.modes import TOLD
from cocoer_client.vlm.red_box import framed
from cocoer_client.vlm.scaling import MIN_SIDE, Box, padded, resampled, sent_size

MEDIA_TYPE = "image/jpeg"


@dataclass(frozen=True)
class ImageOptions:
    """How images are sent.

    Args:
        longest_side: pixels; what is larger is reduced, what is smaller stays (``scaling.sent_size``).
        quality: of JPEG, 1 to 100.
        collage: the levels of a mode go side by side on one image, for models that take one.

    Raises:
        InvalidInput: that can't be.
    """

    longest_side: int = 1024
    quality: int = 90
    collage: bool = False

    def __post_init__(self) -> None:
        if self.longest_side < MIN_SIDE:
            raise InvalidInput(f"the longest side must be {MIN_SIDE} pixels or more, not {self.longest_side}")
        if not 1 <= self.quality <= 100:
            raise InvalidInput(f"the quality of JPEG is 1 to 100, not {self.quality}")


@dataclass(frozen=True)
class SentImage:
    """An image as it is sent.

    Args:
        levels: what is on it, from left to right: one level, or those of a collage.
        data: the file, JPEG.
        size: width and height, pixels.
    """

    levels: tuple[Level, ...]
    data: bytes
    size: tuple[int, int]


class Crops(Mapping[Level, SentImage]):
    """The three levels of a person, and their collages.

    Args:
        levels: each as an image of its own.
        collages: each choice of two or three, in the order of ``TOLD``; none where ``ImageOptions`` asks for none.
    """

    def __init__(
        self, levels: Mapping[Level, SentImage], collages: Mapping[tuple[Level, ...], SentImage] | None = None
    ) -> None:
        self.levels, self.collages = dict(levels), dict(collages or {})

    def __getitem__(self, level: Level) -> SentImage:
        return self.levels[level]

    def __iter__(self) -> Iterator[Level]:
        return iter(self.levels)

    def __len__(self) -> int:
        return len(self.levels)


class Cutter:
    """Cuts the persons of an image. What they have in common, the whole image at its size, is made once.

    Args:
        image: RGB, upright, of RESULT's size.
        options: how images are sent.
    """

    def __init__(self, image: Image.Image, options: ImageOptions) -> None:
        self.image, self.options = image, options

    @functools.cached_property
    def whole(self) -> Image.Image:
        """All of it, at the size in which it is sent; without a red box."""
        return self._part((0, 0, *self.image.size))

    def crops(self, person: Mapping[str, Any]) -> Crops:
        """The levels of a person.

        Args:
            person: of RESULT: ``body_box`` and ``head_box``, in pixels of the image.

        Raises:
            InvalidInput: a box is not inside the image.
        """
        pictures, body = self.pictures(person), self._box(person, "body")
        levels = {
            level: self._sent((level,), self.boxed(picture, body) if level == "context" else picture)
            for level, picture in pictures.items()
        }
        if not self.options.collage:
            return Crops(levels)
        choices = [choice for count in (3, 2) for choice in itertools.combinations(TOLD, count)]
        return Crops(levels, {choice: self._collage(choice, pictures, body) for choice in choices})

    def pictures(self, person: Mapping[str, Any]) -> dict[Level, Image.Image]:
        """The levels' pixels at the size in which they are sent, without a red box; ``crops`` says the rest."""
        boxes = {name: self._box(person, name) for name in ("body", "head")}
        return {"context": self.whole, "body": self._part(boxes["body"]), "head": self._part(boxes["head"])}

    def boxed(self, picture: Image.Image, box: Box) -> Image.Image:
        """The whole image, at any size, with the person in a red box.

        Args:
            picture: of it; it stays as it is.
            box: the body's, in pixels of the image.
        """
        across, down = picture.width / self.image.width, picture.height / self.image.height
        corners = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
        return framed(picture, (*map(math.floor, corners[:2]), *map(math.ceil, corners[2:])))

    def _collage(self, levels: tuple[Level, ...], pictures: Mapping[Level, Image.Image], body: Box) -> SentImage:
        def at_size(level: Level, size: tuple[int, int]) -> Image.Image:
            picture = pictures[level].resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
            # After it was made smaller, which would wash out the line.
            return self.boxed(picture, body) if level == "context" else picture

        sizes = {level: pictures[level].size for level in levels}
        return self._sent(levels, side_by_side(sizes, at_size, self.options.longest_side))

    def _part(self, box: Box) -> Image.Image:
        size = sent_size((box[2] - box[0], box[3] - box[1]), self.options.longest_side)
        return resampled(self.image, box, size)

    def _box(self, person: Mapping[str, Any], name: str) -> Box:
        x1, y1, x2, y2 = box = tuple(person[f"{name}_box"])
        width, height = self.image.size
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            raise InvalidInput(f"the {name} box {list(box)} is not inside the image of {width} x {height} pixels")
        return x1, y1, x2, y2

    def _sent(self, levels: tuple[Level, ...], picture: Image.Image) -> SentImage:
        whole, stream = padded(picture), io.BytesIO()
        whole.info = {}  # comments and the like, which Pillow would write
        # Colours at full resolution, else thin red lines would fade.
        whole.save(stream, "JPEG", quality=self.options.quality, subsampling="4:4:4")
        return SentImage(levels, stream.getvalue(), whole.size)


def cut(image: Image.Image, person: Mapping[str, Any], options: ImageOptions) -> Crops:
    """The levels of one person; see ``Cutter``."""
    return Cutter(image, options).crops(person)
