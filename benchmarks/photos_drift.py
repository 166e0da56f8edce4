"""How far what fast_decode makes of photographs is from what is served without: crops, probabilities, labels."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.photos_ways import Photo, check_same, exact, smaller
from cocoer.checkpoints.loader import load_checkpoint
from cocoer.network.model import CocoER
from cocoer.network.normalise import imagenet_normalise
from cocoer_bls.inputs import Crops
from cocoer_bls.options import DEFAULT_OPTIONS
from export.build_engines import progress

LEVELS = ("head", "body", "context")
FINAL, VI = "final", "V-I"
RESAVED_QUALITY = 85
"""Of the yardstick: the same photograph, saved once more, and decoded whole."""
Probabilities = dict[str, np.ndarray]
"""FP64 [P, 26] of each level, V-I's, and the final ones."""


class Network:
    """CocoER in PyTorch.

    Args:
        checkpoints: where its weights are.
    """

    def __init__(self, checkpoints: Path) -> None:
        checkpoint = load_checkpoint(checkpoints)
        self.model, self.normalise = CocoER.from_checkpoint(checkpoint), imagenet_normalise()
        count = sum(parameter.numel() for parameter in self.model.parameters())
        kind = "synthetic weights: random ones" if checkpoint.identity.synthetic else "weights from files"
        self.described = f"{kind}, {count / 1e6:.0f} million parameters"

    @torch.no_grad()
    def __call__(self, crops: Crops) -> Probabilities:
        """What it says of an image's P persons."""
        persons = len(crops.head_box)
        fused, head, body, context, vi_logits = self.model(
            self.normalise(torch.from_numpy(crops.image[None])),
            self.normalise(torch.from_numpy(crops.head_crop)),
            torch.from_numpy(crops.head_box),
            self.normalise(torch.from_numpy(crops.body_crop)),
            torch.from_numpy(crops.body_box),
            torch.zeros(persons, dtype=torch.int64),
        )
        logits = {
            FINAL: fused.logits,
            "head": head.logits,
            "body": body.logits,
            "context": context.logits,
            VI: vi_logits,
        }
        return {name: 1 / (1 + np.exp(-tensor.numpy().astype(np.float64))) for name, tensor in logits.items()}


def resaved(photo: Photo) -> Photo:
    """The same photo, saved once more: how much results change where nobody would say that anything has."""
    stream = io.BytesIO()
    with Image.open(io.BytesIO(photo.data)) as image:
        image.convert("RGB").save(stream, "JPEG", quality=RESAVED_QUALITY, exif=image.getexif())
    return replace(photo, data=stream.getvalue())


def drift(photos: Iterable[Photo], network: Network | None) -> dict[str, Any]:
    """Changes by what is compared ("2 times smaller", ..., "saved once more") and by level.

    Raises:
        AssertionError: a photo whose crops differ from Pillow's where it is decoded whole.
    """
    names: set[str] = set()
    grey: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    apart: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    flips: dict[str, list[int]] = defaultdict(list)
    for photo in photos:
        if photo.factor == 1:
            continue
        progress(f"{photo.name}, {photo.factor} times smaller")
        check_same(photo)
        names.add(photo.name)
        whole = exact(photo)
        said = None if network is None else network(whole)
        others = {f"fast_decode, {photo.factor} times smaller": smaller(photo)}
        if photo.factor == 2:
            others[f"whole, saved once more with quality {RESAVED_QUALITY}"] = exact(resaved(photo))
        for name, other in others.items():
            for level in LEVELS:
                grey[name][level].append(np.abs(_crops(whole, level).astype(int) - _crops(other, level)).ravel())
            if network is not None and said is not None:
                again = network(other)
                for level, before in said.items():
                    apart[name][level].append(np.abs(before - again[level]).ravel())
                threshold = DEFAULT_OPTIONS.final_threshold
                flips[name].append(int(((said[FINAL] > threshold) != (again[FINAL] > threshold)).sum()))
    return {
        "photographs": sorted(names),
        "changes": {
            name: {
                "crops": {level: _grey_levels(values) for level, values in levels.items()},
                "probabilities": {level: _probabilities(values) for level, values in apart[name].items()},
                "labels": sum(len(values) for values in apart[name][FINAL]) if network else 0,
                "labels_changed": sum(flips[name]),
            }
            for name, levels in grey.items()
        },
    }


def _crops(crops: Crops, level: str) -> np.ndarray:
    found: np.ndarray = crops.image if level == "context" else getattr(crops, f"{level}_crop")
    return found


def _grey_levels(values: Sequence[np.ndarray]) -> dict[str, float]:
    every = np.concatenate(values)
    return {
        "mean": round(float(every.mean()), 3),
        "worst_mean": round(max(float(one.mean()) for one in values), 3),
        "p99": float(np.percentile(every, 99)),
    }


def _probabilities(values: Sequence[np.ndarray]) -> dict[str, float]:
    every = np.concatenate(values)
    return {"mean": round(float(every.mean()), 6), "max": round(float(every.max()), 6)}


def to_rows(changes: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Of the report's table: what is compared, the level, and its changes."""
    rows: list[tuple[str, ...]] = []
    for name, found in changes.items():
        probabilities, crops = found["probabilities"], found["crops"]
        for level in (*LEVELS, VI, FINAL):
            grey, said = crops.get(level), probabilities.get(level)
            if grey is None and said is None:
                continue
            rows.append(
                (
                    name,
                    level,
                    "" if grey is None else f"{grey['mean']:.1f}",
                    "" if grey is None else f"{grey['worst_mean']:.1f}",
                    "" if grey is None else f"{grey['p99']:.0f}",
                    "" if said is None else f"{said['mean']:.4f}",
                    "" if said is None else f"{said['max']:.4f}",
                    f"{found['labels_changed']} of {found['labels']}" if level == FINAL else "",
                )
            )
    return rows
