"""The timeline as a self-contained HTML page."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cocoer_client.drawing.figures import colour_of
from cocoer_client.drawing.pages import data_uri, template
from cocoer_client.drawing.shapes import ink_on
from cocoer_client.files import replace_file
from cocoer_client.timeline.collect import Timeline
from cocoer_client.timeline.rows import PLACES, Line, Point, Row, Span, clock, gap_of, rows_of, ticks

TEMPLATE = Path(__file__).with_name("timeline.html.j2")
WIDTH, HEIGHT = 1000, 100
"""Of a chart's own units, which the page stretches."""
PLAYABLE = (".mp4", ".m4v", ".mov", ".webm")
"""Films that browsers play."""


def write_page(timeline: Timeline, path: Path) -> None:
    """Write the page, atomically; raises OSError where it can't be written."""
    text = page(timeline, film_beside(timeline, path))
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def film_beside(timeline: Timeline, path: Path) -> str | None:
    """The film that the page plays, as a link relative to it: the annotated one, else the source; None: neither."""
    for name in (timeline.picture, timeline.file):
        if name and Path(name).suffix.lower() in PLAYABLE and Path(name).is_file():
            relative = os.path.relpath(Path(name).resolve(), path.resolve().parent)
            return quote(relative.replace(os.sep, "/"))
    return None


def page(timeline: Timeline, film: str | None) -> str:
    """The page as HTML.

    Args:
        timeline: of a film.
        film: link to it; None: times only.
    """
    rows = rows_of(timeline)
    end = max(timeline.end_s, 0.001)
    marks = ticks(end)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    return template(TEMPLATE).render(
        file=Path(timeline.file).name or "no film",
        film=film,
        end=end,
        duration=clock(end, step),
        frames=timeline.frames,
        failed=timeline.failed,
        smooth=timeline.smooth,
        warnings=list(timeline.warnings.values()),
        persons=[_person(row, end, step) for row in rows],
        unseen=len(timeline.persons) - len(rows),
        ticks=[{"left": 100 * mark / end, "text": clock(mark, step)} for mark in marks],
        model=timeline.model,
        width=WIDTH,
        height=HEIGHT,
        data=_data(rows),
        gap=gap_of(timeline.persons.values(), timeline.width),
    )


def _person(row: Row, end: float, step: float) -> dict[str, Any]:
    colour = colour_of(row.number)
    return {
        "number": row.number,
        "colour": colour,
        "ink": ink_on(colour),
        "face": None if row.face is None else data_uri(row.face, "jpeg"),
        "frames": row.frames,
        "first": clock(row.first_s, step),
        "last": clock(row.last_s, step),
        "lines": [
            {
                "label": line.label,
                "colour": line.colour,
                "path": _path(line, end),
                "band": _band(line, end),
            }
            for line in row.lines
        ],
        "order": [
            {"place": place, "spans": [_rect(span, end) for span in spans]} for place, spans in zip(PLACES, row.order)
        ],
    }


def _x(time_s: float, end: float) -> str:
    return f"{WIDTH * time_s / end:.1f}"


def _y(probability: float) -> str:
    return f"{HEIGHT * (1 - probability):.1f}"


def _path(line: Line, end: float) -> str:
    """SVG; a piece of one point is a dot, by its round cap."""
    parts = []
    for piece in line.pieces:
        points = piece if len(piece) > 1 else piece * 2
        parts.append("M" + "L".join(f"{_x(point.time_s, end)} {_y(point.mean)}" for point in points))
    return "".join(parts)


def _band(line: Line, end: float) -> str:
    """SVG, from the lowest to the highest frame; empty where each point is one frame."""
    parts = []
    for piece in line.pieces:
        if any(point.high - point.low > 0.004 for point in piece):
            parts.append("M" + "L".join(_edges(piece, end)) + "Z")
    return "".join(parts)


def _edges(piece: Sequence[Point], end: float) -> list[str]:
    above = [f"{_x(point.time_s, end)} {_y(point.high)}" for point in piece]
    return above + [f"{_x(point.time_s, end)} {_y(point.low)}" for point in reversed(piece)]


def _rect(span: Span, end: float) -> dict[str, str]:
    return {
        "level": span.level,
        "x": _x(span.start_s, end),
        "width": f"{max(0.5, WIDTH * (span.end_s - span.start_s) / end):.1f}",
    }


def _data(rows: Sequence[Row]) -> str:
    """What the page's script reads values from: JSON, times in centiseconds, probabilities in hundredths."""
    persons = [
        {
            "t": [round(100 * point.time_s) for piece in row.lines[0].pieces for point in piece],
            "v": [[round(100 * point.mean) for piece in line.pieces for point in piece] for line in row.lines],
        }
        for row in rows
        if row.lines
    ]
    return json.dumps(persons, separators=(",", ":"))
