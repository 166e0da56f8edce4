"""The timeline as a PNG for slides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from cocoer_client.drawing.badge import badge_size, draw_badge
from cocoer_client.drawing.banner import with_banner
from cocoer_client.drawing.figures import colour_of
from cocoer_client.drawing.levels import LEVEL_COLOURS
from cocoer_client.drawing.shapes import font_of, rounded, shorten, write
from cocoer_client.files import replace_file
from cocoer_client.protocol import LEVELS
from cocoer_client.timeline.collect import Timeline
from cocoer_client.timeline.rows import Line, Row, clock, rows_of, ticks

WIDTH, HEIGHT = 1920, 1080
"""Pixels; higher with many persons."""
MIN_ROW, MAX_ROW = 150, 290
MARGIN, LEFT, TEXT = 40, 480, 22
OVERSAMPLING = 2
GROUND, INK, MUTED, RULE = "#FFFFFF", "#1B1D21", "#5B626D", "#D5D9E0"
COLOURS = ("#0072B2", "#D55E00", "#00805D", "#B0488A", "#946C00", "#6A51C7", "#6B7078", "#7A4A2B")
"""Of labels, as on the page in the light."""
STRIP = 9
"""Height of one place of the exclusion order."""


def write_image(timeline: Timeline, path: Path) -> None:
    """Write the PNG, atomically; raises OSError where it can't be written."""
    drawn = image(timeline)
    replace_file(path, lambda temporary: drawn.save(temporary, format="PNG"))


def image(timeline: Timeline) -> Image.Image:
    """The timeline as an image: RGB, 1,920 pixels wide, as high as its persons need, warnings on top."""
    rows = rows_of(timeline)
    top, bottom = MARGIN + 2 * TEXT + 44, MARGIN + TEXT + 16
    height = max(MIN_ROW, min(MAX_ROW, (HEIGHT - top - bottom) // max(1, len(rows))))
    canvas = Image.new("RGB", (WIDTH, max(HEIGHT, top + bottom + height * len(rows))), GROUND)
    _title(canvas, timeline, rows)
    for index, row in enumerate(rows):
        _row(canvas, row, top + index * height, height, timeline.end_s)
    _axis(canvas, top + len(rows) * height, timeline.end_s)
    return with_banner(canvas, list(timeline.warnings.values())) if timeline.warnings else canvas


def _title(canvas: Image.Image, timeline: Timeline, rows: Sequence[Row]) -> None:
    font, small = font_of(TEXT + 10), font_of(TEXT - 4)
    write(canvas, (MARGIN, MARGIN + 14), shorten(Path(timeline.file).name, font, WIDTH // 2), font, INK)
    smoothed = f", smoothed over {timeline.smooth:g} s" if timeline.smooth else ""
    unseen = len(timeline.persons) - len(rows)
    persons = f"{len(rows)} person{'' if len(rows) == 1 else 's'}"
    persons += f" (and {unseen} seen for less)" if unseen else ""
    text = f"{persons}, {timeline.frames} frames. Lines: final probability, 0 to 1{smoothed}. Strips: exclusion order"
    text += " (first, second, stays) of"
    y = MARGIN + 2 * TEXT + 8
    write(canvas, (MARGIN, y), text, small, MUTED)
    x = MARGIN + small.getlength(text) + 14
    for level in LEVELS:
        ImageDraw.Draw(canvas).rectangle((x, y - 6, x + 18, y + 6), fill=_level_colour(level))
        write(canvas, (x + 25, y), level, small, MUTED)
        x += 43 + small.getlength(level)


def _row(canvas: Image.Image, row: Row, top: int, height: int, end_s: float) -> None:
    inner = height - 22
    face = min(inner, 130)
    if row.face is not None:
        canvas.paste(row.face.resize((face, face), Image.Resampling.LANCZOS), (MARGIN, top), rounded((face, face), 10))
    number = str(row.number)
    # On the face's corner.
    draw_badge(canvas, (MARGIN - badge_size(number, TEXT)[0] // 3, top - 8), number, colour_of(row.number), TEXT)
    font, left = font_of(TEXT - 2), MARGIN + face + 18
    step = min(TEXT + 12, inner // max(1, len(row.lines)))
    for index, line in enumerate(row.lines):
        y = top + step * (index + 0.5)
        draw = ImageDraw.Draw(canvas)
        draw.line((left, y, left + 26, y), fill=_colour(line), width=4)
        write(canvas, (left + 36, y), shorten(line.label, font, LEFT - left - 76), font, INK)
    plot_height = inner - 3 * (STRIP + 2) - 4
    _plot(canvas, row, top, plot_height, end_s)
    for place, spans in enumerate(row.order):
        y = top + plot_height + 5 + place * (STRIP + 2)
        draw = ImageDraw.Draw(canvas)
        draw.rectangle((LEFT, y, WIDTH - MARGIN, y + STRIP - 1), fill="#ECEEF2")
        for span in spans:
            x1, x2 = _x(span.start_s, end_s), _x(span.end_s, end_s)
            draw.rectangle((x1, y, max(x1 + 1, x2), y + STRIP - 1), fill=_level_colour(span.level))


def _level_colour(level: str) -> str:
    return LEVEL_COLOURS["light"][level]


def _colour(line: Line) -> str:
    return COLOURS[line.colour]


def _x(time_s: float, end_s: float) -> float:
    return LEFT + (WIDTH - MARGIN - LEFT) * min(1.0, time_s / max(end_s, 1e-3))


def _plot(canvas: Image.Image, row: Row, top: int, height: int, end_s: float) -> None:
    """Lines and bands, drawn larger and reduced."""
    width, factor = WIDTH - MARGIN - LEFT, OVERSAMPLING
    large = Image.new("RGB", (width * factor, height * factor), GROUND)
    draw = ImageDraw.Draw(large, "RGBA")
    for share in (0, 0.5, 1):
        middle = round((height * factor - 1) * (1 - share))
        draw.line((0, middle, width * factor, middle), fill=RULE, width=factor)

    def at(time_s: float, probability: float) -> tuple[float, float]:
        return (_x(time_s, end_s) - LEFT) * factor, (height * factor - 1) * (1 - probability)

    for line in row.lines:
        for piece in line.pieces:
            above = [at(point.time_s, point.high) for point in piece]
            below = [at(point.time_s, point.low) for point in reversed(piece)]
            if len(piece) > 1:
                draw.polygon([*above, *below], fill=_colour(line) + "33")
    for line in row.lines:
        for piece in line.pieces:
            points = [at(point.time_s, point.mean) for point in piece]
            if len(points) > 1:
                draw.line(points, fill=_colour(line), width=3 * factor, joint="curve")
            else:
                (x, y), reach = points[0], 2.5 * factor
                draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=_colour(line))
    canvas.paste(large.resize((width, height), Image.Resampling.LANCZOS), (LEFT, top))
    for share, text in ((0, "0"), (0.5, ".5"), (1, "1")):
        write(canvas, (LEFT - 8, top + height * (1 - share)), text, font_of(15), MUTED, anchor="rm")


def _axis(canvas: Image.Image, y: int, end_s: float) -> None:
    marks = ticks(end_s)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    for mark in marks:
        x = _x(mark, end_s)
        ImageDraw.Draw(canvas).line((x, y - 10, x, y - 2), fill=MUTED, width=2)
        write(canvas, (x, y + 12), clock(mark, step), font_of(TEXT - 4), MUTED, anchor="mm")
