"""``--explain``: one image's result as a self-contained HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from cocoer_client.drawing.draw import draw_boxes
from cocoer_client.drawing.figures import colour_of
from cocoer_client.drawing.images import open_upright
from cocoer_client.files import replace_file
from cocoer_client.protocol import CROP_SIDE, LEVEL_KEYS, LEVELS, PSEUDO_THRESHOLD
from cocoer_client.reading import ranked

WEIGHTS = {
    "lambda_w1": "weights, all",
    "lambda_b1": "biases, all",
    "lambda_w2": "weights, remaining",
    "lambda_b2": "biases, remaining",
}
MAX_WIDTH = 1200
"""Of the embedded image, pixels."""


def write_page(path: Path, image: bytes, result: Mapping[str, Any], warnings: Sequence[str]) -> None:
    """Write the page atomically.

    Args:
        path: the HTML file.
        image: the file's bytes.
        result: the RESULT object, with ``file``.
        warnings: shown on top.
    """
    text = page(open_upright(image), result, warnings)
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def page(image: Image.Image, result: Mapping[str, Any], warnings: Sequence[str]) -> str:
    """The page as HTML.

    Args:
        image: RGB, upright, of the size in ``result["image"]``.
        result: the RESULT object, with ``file``.
        warnings: shown on top.
    """
    small = draw_boxes(image, result)
    small.thumbnail((MAX_WIDTH, MAX_WIDTH))
    return _template().render(
        file=Path(result["file"]).name,
        image=_data_uri(small),
        warnings=warnings,
        persons=[_person(image, person, index, result["labels"]) for index, person in enumerate(result["persons"])],
        levels=LEVELS,
        pseudo_threshold=PSEUDO_THRESHOLD,
        crop_side=CROP_SIDE,
        model=result["model"],
        step=result["model"].get("coordination_step", 1),
        **result["image"],
    )


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("explain.html.j2")


def _person(image: Image.Image, person: Mapping[str, Any], index: int, labels: Sequence[str]) -> dict[str, Any]:
    losses = person["losses"]
    rows = [_row(person, number, label) for number, label in enumerate(labels)]
    boxes = {"head": person["head_box"], "body": person["body_box"], "context": (0, 0, *image.size)}
    return {
        "id": person["id"],
        "colour": colour_of(person["id"]),
        "pred": [label for label, _ in ranked(person, "pred", labels)],
        "crops": [
            {"level": level, "image": _data_uri(_crop(image, boxes[level])), "labels": person[key]}
            for level, key in LEVEL_KEYS.items()
        ],
        "pseudo": [row["label"] for row in rows if row["pseudo"]],
        "order": [name.removesuffix("-level") for name in person["emo_process"]],
        "losses": losses,
        "max_loss": max(*losses.values(), 1e-9),
        "rows": sorted(rows, key=lambda row: -row["final"]),
        "weights": [
            {"name": name, "parts": list(person["coordination"][key].items())} for key, name in WEIGHTS.items()
        ],
        "grad_distance": person["coordination"]["grad_distance"],
    }


def _row(person: Mapping[str, Any], number: int, label: str) -> dict[str, Any]:
    scores = person["scores"]
    return {
        "label": label,
        "vi": scores["VI"][number],
        "pseudo": scores["VI"][number] > PSEUDO_THRESHOLD,
        "changes": [
            {"level": level, "before": scores[key][number], "after": person["refined"][key][number]}
            for level, key in LEVEL_KEYS.items()
        ],
        "final": scores["pred"][number],
        "chosen": label in person["pred"],
    }


def _crop(image: Image.Image, box: Sequence[int]) -> Image.Image:
    """A crop as the network gets it, colours as a person sees them."""
    x1, y1, x2, y2 = box
    return image.crop((x1, y1, x2, y2)).resize((CROP_SIDE, CROP_SIDE), Image.Resampling.BILINEAR)


def _data_uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
