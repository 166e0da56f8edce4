"""``--explain``: one image's result as a self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from cocoer_client.drawing.draw import draw_boxes
from cocoer_client.drawing.figures import colour_of
from cocoer_client.drawing.images import open_upright
from cocoer_client.drawing.pages import data_uri, template
from cocoer_client.files import replace_file
from cocoer_client.protocol import CROP_SIDE, LEVEL_KEYS, LEVELS, PSEUDO_THRESHOLD
from cocoer_client.reading import ranked

TEMPLATE = Path(__file__).with_name("explain.html.j2")
WEIGHTS = {
    "lambda_w1": "weights, all",
    "lambda_b1": "biases, all",
    "lambda_w2": "weights, remaining",
    "lambda_b2": "biases, remaining",
}
MAX_SIDE = 1200
"""Of the embedded image, pixels."""
DEFAULT_THRESHOLDS = {"final_threshold": 0.26, "level_threshold": 0.6}
"""The server's, unless its configuration or a request says otherwise."""
DECIDED_BY = {"final_threshold": ("pred",), "level_threshold": ("VI", *LEVEL_KEYS.values())}
"""Threshold -> the lists of labels that it decides."""


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
    scale = min(1.0, MAX_SIDE / max(image.size))
    # A new one in any case: it is drawn on.
    small = image.resize([max(1, round(side * scale)) for side in image.size], reducing_gap=2.0)
    return template(TEMPLATE).render(
        file=Path(result["file"]).name,
        image=_data_uri(draw_boxes(small, result, scale)),
        context_crop=_data_uri(_crop(image, (0, 0, *image.size))),
        warnings=warnings,
        persons=[_person(image, person, result["labels"]) for person in result["persons"]],
        **{name: threshold_of(result, name) for name in DEFAULT_THRESHOLDS},
        levels=LEVELS,
        pseudo_threshold=PSEUDO_THRESHOLD,
        crop_side=CROP_SIDE,
        model=result["model"],
        step=result["model"].get("coordination_step", 1),
        **result["image"],
    )


def threshold_of(result: Mapping[str, Any], name: str) -> float | None:
    """A threshold that was asked for, or the server's usual one; None where the result's labels contradict that.

    Args:
        result: the RESULT object, with ``options`` where some were given.
        name: ``final_threshold`` or ``level_threshold``.
    """
    if (given := result.get("options", {}).get(name)) is not None:
        return float(given)
    usual = DEFAULT_THRESHOLDS[name]
    agrees = all(
        (probability > usual) == (label in person[key])
        for person in result["persons"]
        for key in DECIDED_BY[name]
        for label, probability in zip(result["labels"], person["scores"][key])
    )
    return usual if agrees else None


def _person(image: Image.Image, person: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    losses = person["losses"]
    rows = [_row(person, number, label) for number, label in enumerate(labels)]
    crops = {"head": _data_uri(_crop(image, person["head_box"])), "body": _data_uri(_crop(image, person["body_box"]))}
    return {
        "id": person["id"],
        "colour": colour_of(person["id"]),
        "pred": [label for label, _ in ranked(person, "pred", labels)],
        "crops": [
            # The context crop is the same for all, and is on the page once.
            {"level": level, "image": crops.get(level), "labels": person[key]}
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
    return data_uri(image, "webp", method=4)
