"""Anti-aliased shapes and text for Pillow, which draws its own with hard edges: masks made larger, then reduced."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

OVERSAMPLING = 8

Size = tuple[int, int]
Corner = tuple[int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=64)
def font_of(size: int) -> Font:
    """Pillow's own font, in pixels."""
    return ImageFont.load_default(size=size)


def text_height(font: Font) -> int:
    """Pixels from the top of capitals to the bottom of descenders."""
    top, bottom = font.getbbox("Ag")[1::2]
    return round(bottom - top) or 1


def shorten(text: str, font: Font, width: float) -> str:
    """The text, or as much of it as fits, with an ellipsis."""
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2] + "\N{HORIZONTAL ELLIPSIS}"
    return text


def rounded(size: Size, radius: int, line: int = 0) -> Image.Image:
    """Mask (L) of a rectangle with round corners.

    Args:
        size: width and height, pixels.
        radius: of the corners.
        line: width of the outline, inwards; 0: filled.
    """
    width, height = (max(1, value) for value in size)
    radius = max(0, min(radius, width // 2, height // 2))
    mask = Image.new("L", (width, height), 255)
    if line and width > 2 * line and height > 2 * line:
        mask.paste(0, (line, line, width - line, height - line))
    if radius:
        corner = _corner(radius, line)
        for x, y, turn in (
            (0, 0, None),
            (width - radius, 0, Image.Transpose.FLIP_LEFT_RIGHT),
            (0, height - radius, Image.Transpose.FLIP_TOP_BOTTOM),
            (width - radius, height - radius, Image.Transpose.ROTATE_180),
        ):
            mask.paste(corner if turn is None else corner.transpose(turn), (x, y))
    return mask


@lru_cache(maxsize=256)
def _corner(radius: int, line: int) -> Image.Image:
    """The upper left quarter of a disc or ring."""
    side = radius * OVERSAMPLING
    large = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(large)
    pen.ellipse((0, 0, 2 * side - 1, 2 * side - 1), fill=255)
    if line:
        inset = line * OVERSAMPLING
        if inset < side:
            pen.ellipse((inset, inset, 2 * side - 1 - inset, 2 * side - 1 - inset), fill=0)
    return large.resize((radius, radius), Image.Resampling.BOX)


def dash(mask: Image.Image, line: int, length: int) -> None:
    """Turn an outline of width ``line`` into dashes, ``length`` pixels long and as far apart."""
    width, height = mask.size
    for start in range(2 * length, width - 2 * length, 2 * length):
        for y in (0, height - line):
            mask.paste(0, (start, y, start + length, y + line))
    for start in range(2 * length, height - 2 * length, 2 * length):
        for x in (0, width - line):
            mask.paste(0, (x, start, x + line, start + length))


def fill(canvas: Image.Image, corner: Corner, mask: Image.Image, colour: str, opacity: float = 1.0) -> None:
    """Paint ``colour`` through a mask whose upper left lies at ``corner``; parts outside the canvas are dropped."""
    if opacity < 1:
        mask = mask.point(lambda value: round(value * opacity))
    canvas.paste(colour, corner, mask)


def write(
    canvas: Image.Image, middle_left: tuple[float, float], text: str, font: Font, colour: str, anchor: str = "lm"
) -> None:
    """Text with its middle line at the given height (``anchor`` as Pillow's)."""
    ImageDraw.Draw(canvas).text(middle_left, text, fill=colour, font=font, anchor=anchor)


def ink_on(colour: str) -> str:
    """Black or white, whichever reads better on a colour ``#RRGGBB``.

    >>> ink_on("#F0E442"), ink_on("#1B1D21")
    ('black', 'white')
    """
    red, green, blue = (int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5))
    return "black" if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.18 else "white"
