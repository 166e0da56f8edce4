"""The images that are sent: the whole one with the person in a red box, the body, the head.

Cut by RESULT's boxes from the upright image, at full resolution: what the network saw of each level, before it was
reduced to 224 x 224 pixels. Every mode sends the same bytes of a level.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from cocoer_client.protocol import Level
from cocoer_client.vlm.modes import TOLD

RED = (255, 0, 0)
MEDIA_TYPE = "image/jpeg"


@dataclass(frozen=True)
class ImageOptions:
    """How images are sent.

    Args:
        longest_side: pixels; what is larger is reduced, what is smaller stays.
        quality: of JPEG, 1 to 100.
    """

    longest_side: int = 1024
    quality: int = 90


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


def cut(image: Image.Image, person: Mapping[str, Any], options: ImageOptions) -> dict[Level, SentImage]:
    """The three levels of a person.

    Args:
        image: RGB, upright, of RESULT's size.
        person: of RESULT: ``body_box`` and ``head_box``, in pixels of this image.
        options: size and quality.
    """
    body, head = tuple(person["body_box"]), tuple(person["head_box"])
    pictures = {"context": boxed(image, body, options.longest_side), "body": image.crop(body), "head": image.crop(head)}
    return {level: _sent((level,), pictures[level], options) for level in TOLD}


def boxed(image: Image.Image, box: Sequence[int], longest_side: int) -> Image.Image:
    """The whole image, reduced, with the person in a red box of a width that shows."""
    small = reduced(image, longest_side).copy()
    across, down = small.width / image.width, small.height / image.height
    x1, y1, x2, y2 = box[0] * across, box[1] * down, box[2] * across, box[3] * down
    width = max(2, min(small.size) // 150)
    ImageDraw.Draw(small).rectangle((round(x1), round(y1), round(x2) - 1, round(y2) - 1), outline=RED, width=width)
    return small


def reduced(image: Image.Image, longest_side: int) -> Image.Image:
    """Not larger than that, with its aspect kept; the same image where it is not."""
    scale = longest_side / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def collage(images: Sequence[SentImage], options: ImageOptions) -> SentImage:
    """One image of several, side by side, for models that take one."""
    pictures = [Image.open(io.BytesIO(image.data)) for image in images]
    height = max(picture.height for picture in pictures)
    scaled = [picture.resize((max(1, round(picture.width * height / picture.height)), height)) for picture in pictures]
    gap = max(4, height // 60)
    canvas = Image.new("RGB", (sum(one.width for one in scaled) + gap * (len(scaled) - 1), height), "white")
    x = 0
    for one in scaled:
        canvas.paste(one, (x, 0))
        x += one.width + gap
    return _sent(tuple(level for image in images for level in image.levels), canvas, options)


def _sent(levels: tuple[Level, ...], image: Image.Image, options: ImageOptions) -> SentImage:
    small, stream = reduced(image, options.longest_side), io.BytesIO()
    small.save(stream, "JPEG", quality=options.quality, subsampling=0)
    return SentImage(levels, stream.getvalue(), small.size)
