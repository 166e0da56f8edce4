"""A person's panel: number, labels with a bar each, and the exclusion sequence as chips."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from cocoer_client.drawing.badge import badge_size, draw_badge
from cocoer_client.drawing.figures import Figure
from cocoer_client.drawing.shapes import fill, font_of, rounded, shorten, text_height, text_width, write
from cocoer_client.reading import ranked

GROUND, TRACK, MUTED = "#14161A", "#4A4F59", "#AEB4BE"


class Panel:
    """Measured when made, drawn when its place is known.

    Args:
        figure: the person, with the number shown.
        labels: RESULT's ``labels``.
        maximum: labels shown; of more, "+n more" tells.
        text: size of the text, pixels.
        width: the panel is no wider.
    """

    def __init__(self, figure: Figure, labels: Sequence[str], maximum: int, text: int, width: int) -> None:
        person, self.number, self.colour = figure.person, str(figure.number), figure.colour
        self.text, self.small_text = text, max(9, round(text * 0.82))
        self.font, self.small = font_of(text), font_of(self.small_text)
        self.pad = max(4, round(text * 0.5))
        self.row = round(text_height(self.font) * 1.45)
        self.badge = badge_size(self.number, text)[0]
        chosen = ranked(person, "pred", labels)
        self.rows = chosen[:maximum]
        rest = len(chosen) - len(self.rows)
        self.remark = f"+{rest} more" if rest else "" if chosen else "no label"
        self.order = [name.removesuffix("-level") for name in person["emo_process"]]

        self.bar = 4 * text
        self.value_width = round(text_width("0.00", text))
        names = [label for label, _ in self.rows] + ([self.remark] if self.remark else [])
        name_width = max(round(text_width(name, text)) for name in names)
        fixed = self.badge + 2 * self.pad + round(0.5 * text)
        behind = self.bar + self.value_width + text
        if fixed + name_width + behind > width:
            self.bar, behind = 0, self.value_width + round(0.5 * text)
        self.name_width = max(text, min(name_width, width - fixed - behind))
        lines = len(self.rows) + bool(self.remark)
        self.chips = self._chip_rects(width)
        chips_width = self.chips[-1][1] if self.chips else 0
        self.size = (
            min(width, max(fixed + self.name_width + behind, chips_width + 2 * self.pad)),
            2 * self.pad
            + max(lines * self.row, badge_size(self.number, text)[1])
            + (round(1.25 * self.row) if self.chips else 0),
        )

    def _chip_rects(self, width: int) -> list[tuple[int, int, str]]:
        """Left, right and text of each chip, within the panel's padding; none where they don't fit."""
        chips, x = [], 0
        for name in self.order:
            right = x + round(text_width(name, self.small_text)) + round(0.9 * self.text)
            chips.append((x, right, name))
            x = right + round(0.5 * self.text)
        return chips if chips[-1][1] + 2 * self.pad <= width else []

    def draw(self, canvas: Image.Image, corner: tuple[int, int]) -> None:
        """Draw with the upper left at ``corner``."""
        x, y = corner
        radius = round(0.45 * self.text)
        fill(canvas, corner, rounded(self.size, radius), GROUND, 0.86)
        fill(canvas, corner, rounded(self.size, radius, max(1, self.text // 9)), self.colour)
        draw_badge(canvas, (x + self.pad, y + self.pad), self.number, self.colour, self.text)
        left = x + self.pad + self.badge + round(0.5 * self.text)
        middle = y + self.pad + self.row / 2
        for label, probability in self.rows:
            self._draw_row(canvas, left, middle, label, probability)
            middle += self.row
        if self.remark:
            write(canvas, (left, middle), shorten(self.remark, self.font, self.name_width), self.font, MUTED)
        self._draw_chips(canvas, x + self.pad, y + self.size[1] - self.pad)

    def _draw_row(self, canvas: Image.Image, left: int, middle: float, label: str, probability: float) -> None:
        write(canvas, (left, middle), shorten(label, self.font, self.name_width), self.font, "white")
        x = left + self.name_width + round(0.5 * self.text)
        if self.bar:
            height = max(4, round(0.5 * self.text))
            top = round(middle - height / 2)
            fill(canvas, (x, top), rounded((self.bar, height), height // 2), TRACK)
            length = max(height, round(self.bar * probability))
            fill(canvas, (x, top), rounded((length, height), height // 2), self.colour)
            x += self.bar + round(0.5 * self.text)
        write(canvas, (x, middle), f"{probability:.2f}", self.font, "white")

    def _draw_chips(self, canvas: Image.Image, left: int, bottom: int) -> None:
        """Levels in the order of exclusion: the first struck out, the one that stays to the end filled."""
        height = round(1.05 * self.row)
        top, stroke = bottom - height, max(1, self.text // 10)
        for index, (start, end, name) in enumerate(self.chips):
            place, size = (left + start, top), (end - start, height)
            last = index == len(self.chips) - 1
            fill(canvas, place, rounded(size, height // 2, 0 if last else stroke), "#E8EAED" if last else MUTED)
            ink = "black" if last else "white"
            write(canvas, (left + (start + end) / 2, top + height / 2), name, self.small, ink, anchor="mm")
            if index == 0:
                strike = (size[0] - round(0.5 * self.text), max(1, self.text // 10))
                corner = (place[0] + round(0.25 * self.text), round(top + height / 2 - strike[1] / 2))
                fill(canvas, corner, rounded(strike, 1), "#FF7A66")
