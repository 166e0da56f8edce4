"""The annotated picture: boxes, numbers, final labels beside each face.

Every text stays inside the frame and legible: sizes follow the picture's, small pictures are enlarged first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

SMALLEST_SIDE = 480
"""Pictures whose shorter side is below this are enlarged by a whole factor."""
# Okabe and Ito's colours, told apart by the colour-blind too, less those too dark for text on black; one per person.
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00")
WARNING_COLOUR = "#B00020"

Rect = tuple[int, int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def open_upright(path: Path) -> Image.Image:
    """The picture as the server sees it: RGB, turned by its EXIF orientation."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def annotate(image: Image.Image, result: Mapping[str, Any], warnings: Sequence[str]) -> Image.Image:
    """Draw a result on its picture.

    Args:
        image: RGB, upright, of the size in ``result["image"]``.
        result: the RESULT object.
        warnings: lines for a banner above the picture.

    Returns:
        a new picture: ``image``, enlarged by a whole factor if it is small, below the banner.
    """
    canvas = _enlarge(image)
    factor = canvas.width // image.width
    pen = ImageDraw.Draw(canvas)
    line = max(2, min(canvas.size) // 200)
    font = _font(max(12, min(canvas.size) // 36))

    persons = [
        (
            person,
            [v * factor for v in person["body_box"]],
            [v * factor for v in person["head_box"]],
            COLOURS[index % len(COLOURS)],
        )
        for index, person in enumerate(result["persons"])
    ]
    for _, body, head, colour in persons:
        for box in (body, head):
            pen.rectangle(_inside(box, canvas.size), outline=colour, width=line)
    taken: list[Sequence[float]] = [head for _, _, head, _ in persons]
    for person, _, head, colour in persons:
        panel = _Panel(f"#{person['id']}", _by_probability(person, result["labels"]), font, canvas.size)
        taken.append(panel.draw(canvas, _place(panel.size, head, canvas.size, taken), colour))
    return _with_banner(canvas, warnings) if warnings else canvas


def _enlarge(image: Image.Image) -> Image.Image:
    """A copy whose shorter side is at least ``SMALLEST_SIDE``, unless its longer side would grow past 4,096."""
    wanted = -(-SMALLEST_SIDE // min(image.size))
    factor = max(1, min(wanted, 4096 // max(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)


def _by_probability(person: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    probability = dict(zip(labels, person["scores"]["pred"]))
    return [
        f"{label} {probability[label]:.2f}" for label in sorted(person["pred"], key=lambda label: -probability[label])
    ]


def _inside(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box's outline within the frame: x2 and y2 are one past the last pixel."""
    x1, y1 = min(box[0], size[0] - 2), min(box[1], size[1] - 2)
    return x1, y1, max(x1 + 1, min(box[2], size[0]) - 1), max(y1 + 1, min(box[3], size[1]) - 1)


class _Panel:
    """A person's number and labels on a dark ground; as many labels as fit the frame, then "+n more"."""

    def __init__(self, title: str, labels: Sequence[str], font: Font, frame: tuple[int, int]) -> None:
        self.font = font
        self.pad = max(3, round(_height(font) * 0.3))
        self.step = round(_height(font) * 1.2)
        # Half the frame's height at the most: a picture is for looking at.
        room = max(2, (frame[1] // 2 - 2 * self.pad) // self.step - 1)
        lines = list(labels) or ["no label"]
        if len(lines) > room:
            lines = [*lines[: room - 1], f"+{len(lines) - room + 1} more"]
        self.lines = [_shorten(line, font, frame[0] - 2 * self.pad) for line in (title, *lines)]
        width = max(font.getlength(line) for line in self.lines)
        self.size = (min(frame[0], round(width) + 2 * self.pad), self.step * len(self.lines) + 2 * self.pad)

    def draw(self, canvas: Image.Image, corner: tuple[int, int], colour: str) -> Rect:
        """Draw with the upper left at ``corner``; the rectangle covered."""
        x, y = corner
        rect = (x, y, x + self.size[0], y + self.size[1])
        ground = canvas.crop(rect)
        canvas.paste(Image.blend(ground, Image.new("RGB", ground.size, "black"), 0.72), corner)
        pen = ImageDraw.Draw(canvas)
        pen.rectangle((x, y, rect[2] - 1, rect[3] - 1), outline=colour, width=max(1, self.pad // 3))
        for index, line in enumerate(self.lines):
            fill = colour if index == 0 else "white"
            pen.text((x + self.pad, y + self.pad + index * self.step), line, fill=fill, font=self.font)
        return rect


def _place(
    size: tuple[int, int], face: Sequence[float], frame: tuple[int, int], taken: Sequence[Sequence[float]]
) -> tuple[int, int]:
    """The corner of a panel beside a face that covers least of what is taken; inside the frame."""
    width, height = size
    gap = 6
    x1, y1, x2, y2 = face
    beside = [(x2 + gap, y1), (x1 - gap - width, y1), (x1, y2 + gap), (x1, y1 - gap - height)]
    # Anywhere, in steps, where a crowd leaves no room beside the face.
    steps_x, steps_y = max(1, width // 2, frame[0] // 40), max(1, height // 2, frame[1] // 40)
    anywhere = [(x, y) for y in range(0, frame[1], steps_y) for x in range(0, frame[0], steps_x)]

    def cost(corner: tuple[float, float]) -> tuple[float, float]:
        x, y = _clamped(corner, size, frame)
        covered = sum(_overlap((x, y, x + width, y + height), rect) for rect in taken)
        return covered, abs(x - x2) + abs(y - y1)

    best = min(beside, key=cost)
    if cost(best)[0] > 0:
        best = min([best, *anywhere], key=cost)
    return _clamped(best, size, frame)


def _clamped(corner: tuple[float, float], size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    x, y = (round(max(0, min(value, limit - extent))) for value, limit, extent in zip(corner, frame, size))
    return x, y


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _with_banner(canvas: Image.Image, warnings: Sequence[str]) -> Image.Image:
    """Warnings above the picture, so that they hide nothing of it, as large as the width allows."""
    size = max(10, min(canvas.size) // 26)
    while size > 7 and max(_font(size).getlength(text) for text in warnings) > canvas.width - 12:
        size -= 1
    font = _font(size)
    step = round(_height(font) * 1.3)
    height = step * len(warnings) + 6
    whole = Image.new("RGB", (canvas.width, canvas.height + height), WARNING_COLOUR)
    whole.paste(canvas, (0, height))
    pen = ImageDraw.Draw(whole)
    for index, text in enumerate(warnings):
        pen.text((6, 3 + index * step), _shorten(text, font, canvas.width - 12), fill="white", font=font)
    return whole


def _font(size: int) -> Font:
    return ImageFont.load_default(size=size)


def _height(font: Font) -> int:
    top, bottom = font.getbbox("Ag")[1::2]
    return round(bottom - top) or 1


def _shorten(text: str, font: Font, width: float) -> str:
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2] + "\N{HORIZONTAL ELLIPSIS}"
    return text
