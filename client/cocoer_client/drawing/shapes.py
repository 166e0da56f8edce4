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


@lru_cache(maxsize=4096)
def text_width(text: str, size: int) -> float:
    """Of a text in ``font_of(size)``, pixels; measuring it takes longer than anything else in a layout."""
    return font_of(size).getlength(text)


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
        for x, y, turn in _turns(0, 0, width - radius, height - radius):
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


def outline(
    canvas: Image.Image,
    box: tuple[int, int, int, int],
    radius: int,
    line: int,
    colour: str,
    opacity: float = 1.0,
    dash: int = 0,
) -> None:
    """Draw a rectangle's outline with round corners, touching no pixel inside.

    Args:
        canvas: RGB; parts outside it are dropped.
        box: outer edges, pixels.
        radius: of the corners.
        line: width, inwards.
        colour: of the line.
        opacity: of the line.
        dash: length of its dashes, pixels, which lie as far apart; 0: a whole line.
    """
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    side = max(line, min(radius, width // 2, height // 2))
    if width <= 2 * side or height <= 2 * side:
        # Too small to be taken apart.
        fill(canvas, (x1, y1), rounded((width, height), radius, line), colour, opacity)
        return
    corner = _corner(side, line)
    for x, y, turn in _turns(x1, y1, x2 - side, y2 - side):
        fill(canvas, (x, y), corner if turn is None else corner.transpose(turn), colour, opacity)
    for start, end in _dashes(x1 + side, x2 - side, dash):
        for y in (y1, y2 - line):
            fill_rect(canvas, (start, y, end, y + line), colour, opacity)
    for start, end in _dashes(y1 + side, y2 - side, dash):
        for x in (x1, x2 - line):
            fill_rect(canvas, (x, start, x + line, end), colour, opacity)


def _turns(left: int, top: int, right: int, bottom: int) -> list[tuple[int, int, Image.Transpose | None]]:
    """Where the four corners lie, and how the upper left one is turned for them."""
    turn = Image.Transpose
    return [
        (left, top, None),
        (right, top, turn.FLIP_LEFT_RIGHT),
        (left, bottom, turn.FLIP_TOP_BOTTOM),
        (right, bottom, turn.ROTATE_180),
    ]


def _dashes(start: int, end: int, length: int) -> list[tuple[int, int]]:
    """A line's dashes; it begins and ends with one.

    >>> _dashes(0, 50, 10)
    [(0, 10), (20, 30), (40, 50)]
    >>> _dashes(0, 50, 0)
    [(0, 50)]
    """
    count = max(1, round((end - start) / (2 * length) + 0.5)) if length else 1
    step = (end - start) / (2 * count - 1)
    return [(round(start + 2 * i * step), round(start + (2 * i + 1) * step)) for i in range(count)]


def fill(canvas: Image.Image, corner: Corner, mask: Image.Image, colour: str, opacity: float = 1.0) -> None:
    """Paint ``colour`` through a mask whose upper left lies at ``corner``; parts outside the canvas are dropped."""
    if opacity < 1:
        mask = mask.point([round(value * opacity) for value in range(256)])
    canvas.paste(colour, corner, mask)


def fill_rect(canvas: Image.Image, box: tuple[int, int, int, int], colour: str, opacity: float = 1.0) -> None:
    """Paint a rectangle; parts outside the canvas are dropped."""
    x1, y1, x2, y2 = max(0, box[0]), max(0, box[1]), min(canvas.width, box[2]), min(canvas.height, box[3])
    if x1 >= x2 or y1 >= y2:
        return
    if opacity < 1:
        canvas.paste(colour, (x1, y1, x2, y2), Image.new("L", (x2 - x1, y2 - y1), round(255 * opacity)))
    else:
        canvas.paste(colour, (x1, y1, x2, y2))


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
