"""The served graph as an image, from the table that the configurations come from: ``python tools/graph.py``."""

from __future__ import annotations

from html import escape
from pathlib import Path

from export.files import write_text
from export.models import ENSEMBLES, Ensemble

TARGET = Path(__file__).resolve().parent.parent / "docs" / "graph.svg"
WIDTH, HEIGHT = 210, 62
PLACES = {
    "person_detector": (330, 120),
    "face_detector": (600, 120),
    "context_encoder": (276, 300),
    "vi_head": (615, 300),
    "context_gather": (276, 410),
    "head_encoder": (168, 520),
    "body_encoder": (384, 520),
    "fusion": (276, 640),
}
"""Upper left corner of each model."""
NOTES = {
    "person_detector": "SCRFD, NMS; per image",
    "face_detector": "SCRFD, NMS; per image",
    "context_encoder": "once per image",
    "vi_head": "CLIP, V-I; once per image",
    "context_gather": "each person's image's tokens",
    "head_encoder": "once per person",
    "body_encoder": "once per person",
    "fusion": "competition, coordination, logits",
}
AROUND = {("context_encoder", "fusion"): (604, 660), ("vi_head", "fusion"): (720, 682)}
"""Edges that go around the models between: x on their way down, y at which they arrive."""
GROUPS = {"detection": (310, 80, 520, 122), "recognition": (160, 260, 670, 462)}
"""x, y, width, height of the frames around the ensembles."""
BLS = (30, 80, 110, 642)
STYLE = """
text { font: 14px system-ui, "DejaVu Sans", sans-serif; fill: #1b1d21 } .note { font-size: 11.5px; fill: #5b626d }
.model { fill: #fff; stroke: #0072b2; stroke-width: 1.5 }
.group { fill: #f6f7f9; stroke: #aeb4be; stroke-dasharray: 5 4 }
.bls { fill: #fff3da; stroke: #e69f00; stroke-width: 1.5 }
.edge { fill: none; stroke: #5b626d; stroke-width: 1.3; marker-end: url(#arrow) }
"""


def edges(ensemble: Ensemble) -> list[tuple[str, str]]:
    """(from, to) of each pair of models of which one reads what the other writes.

    >>> from export.models import DETECTION
    >>> edges(DETECTION)
    []
    """
    writer = {tensor: step.model for step in ensemble.steps for tensor in step.outputs.values()}
    pairs = [(writer.get(tensor, ""), step.model) for step in ensemble.steps for tensor in step.inputs.values()]
    return [pair for pair in dict.fromkeys(pairs) if pair[0]]


def svg() -> str:
    middle = BLS[0] + BLS[2] / 2
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 760" role="img" '
        'aria-label="The served graph: a Python BLS, and two ensembles that it calls">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#5b626d"/></marker></defs>',
        '<rect width="860" height="760" fill="#fff"/>',
        _text(middle, 40, "JPEG, PNG, WebP, BMP", "middle"),
        _path(middle, 48, middle, BLS[1]),
        f'<rect class="bls" x="{BLS[0]}" y="{BLS[1]}" width="{BLS[2]}" height="{BLS[3]}" rx="10"/>',
        _text(middle, 110, "cocoer", "middle"),
        _text(middle, 128, "Python BLS", "middle", "note"),
    ]
    for y, words in ((165, ("decode,", "letterbox")), (240, ("match, crop",)), (690, ("labels,", "RESULT"))):
        parts += [_text(middle, y + 16 * line, word, "middle", "note") for line, word in enumerate(words)]
    for name, (x, y, width, height) in GROUPS.items():
        parts.append(f'<rect class="group" x="{x}" y="{y}" width="{width}" height="{height}" rx="10"/>')
        parts.append(_text(x + 12, y + 22, f"{name} (ensemble)", "start"))
        parts.append(_path(BLS[0] + BLS[2], y + 40, x, y + 40))
        parts.append(_path(x, y + height - 20, BLS[0] + BLS[2], y + height - 20))
    for ensemble in ENSEMBLES:
        for source, target in edges(ensemble):
            parts.append(_edge(source, target))
        parts += [_model(step.model) for step in ensemble.steps]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _model(name: str) -> str:
    x, y = PLACES[name]
    box = f'<rect class="model" x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
    middle = x + WIDTH / 2
    return box + _text(middle, y + 27, name, "middle") + _text(middle, y + 46, NOTES[name], "middle", "note")


def _edge(source: str, target: str) -> str:
    (x1, y1), (x2, y2) = PLACES[source], PLACES[target]
    if (source, target) in AROUND:
        x, y = AROUND[source, target]
        start = f"M{x1 + WIDTH} {y1 + HEIGHT // 2}H{x}" if x > x1 + WIDTH else f"M{x} {y1 + HEIGHT}"
        return f'<path class="edge" d="{start}V{y}H{x2 + WIDTH}"/>'
    # From below to above; side by side where several meet.
    start_x, end_x = x1 + WIDTH / 2, x2 + WIDTH / 2
    shift = max(-0.35 * WIDTH, min(0.35 * WIDTH, (start_x - end_x) / 3))
    return _path(start_x - shift / 2, y1 + HEIGHT, end_x + shift, y2)


def _path(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path class="edge" d="M{x1:g} {y1:g}L{x2:g} {y2:g}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'


if __name__ == "__main__":
    write_text(TARGET, svg())
    print(TARGET)
