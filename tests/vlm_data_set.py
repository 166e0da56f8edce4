"""A data set in EMOTIC's format of which each person can be told by the pixels, and servers that know them by these."""

from __future__ import annotations

import csv
import functools
import io
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cocoer.labels import EMOTIC_LABELS
from tests.results import LEVELS, make_person, make_result
from tests.vlm_server import SeenRequest

SIZE = (240, 120)
BODIES = ((10, 10, 110, 110), (130, 10, 230, 110))
HEADS = ((40, 20, 80, 60), (160, 20, 200, 60))
DARKEST, STEP = 10, 4
"""Grey of the first person, and how much lighter the next one is."""


@dataclass
class MadeUp:
    """Images with two persons each, one on the left and one on the right, each in front of a grey of its own.

    Args:
        root: where they are written.
        images: how many, at most 30.
    """

    root: Path
    images: int
    truth: list[tuple[str, ...]] = field(init=False)
    """Of each person, in the order of the 26."""

    def __post_init__(self) -> None:
        chance, count = random.Random(0), 2 * self.images
        self.truth = [tuple(x for x in EMOTIC_LABELS if chance.random() < 0.15) or ("peace",) for _ in range(count)]
        rows = []
        for number in range(self.images):
            pixels = np.zeros((SIZE[1], SIZE[0], 3), dtype=np.uint8)
            for side in (0, 1):
                person = 2 * number + side
                pixels[:, 120 * side : 120 * (side + 1)] = DARKEST + STEP * person
                rows.append(["f", f"{number}.png", list(BODIES[side]), list(HEADS[side]), list(self.truth[person])])
            (self.root / "f").mkdir(exist_ok=True)
            Image.fromarray(pixels).save(self.root / "f" / f"{number}.png")
        with self.annotations.open("w", newline="") as file:
            csv.writer(file).writerows([["Folder", "Filename", "BBox", "Head_BBox", "Categorical_Labels"], *rows])

    @property
    def annotations(self) -> Path:
        """CSV."""
        return self.root / "test.csv"

    @staticmethod
    def order(person: int) -> list[str]:
        """``emo_process``: each level is the first of a third of the persons."""
        return [f"{LEVELS[(person + place) % 3]}-level" for place in (0, 1, 2)]

    def result(self, image: bytes, _number: int, **model: Any) -> Mapping[str, Any]:
        """RESULT of an image of the data set, whose persons are asked for by boxes; nobody in any other one."""
        pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
        if pixels.shape[:2] != SIZE[::-1]:
            return made_by(make_result((8, 8), []), model)
        first = _person_of(pixels[60, 60, 1])
        persons = [
            make_person(side + 1, BODIES[side], HEADS[side], list(self.truth[first + side][:1]))
            | {"emo_process": self.order(first + side)}
            for side in (0, 1)
        ]
        return made_by(make_result(SIZE, persons), model)

    def asked(self, request: SeenRequest) -> tuple[int, str]:
        """Which person, and in what way: ``exclude_random`` is one of the others, or another level's name."""
        person, levels = self.seen(request)
        if len(levels) != 2:
            return person, "single" if len(levels) == 1 else "multi"
        (missing,) = set(LEVELS) - set(levels)
        place = self.order(person).index(f"{missing}-level")
        return person, ("enhanced", "second", "exclude_last")[place]

    def seen(self, request: SeenRequest) -> tuple[int, tuple[str, ...]]:
        """Which person, and the levels that came."""
        levels = {image.level: np.asarray(image.picture.convert("RGB")).astype(int) for image in request.images}
        if "context" not in levels:
            pixels = next(iter(levels.values()))
            return _person_of(pixels[pixels.shape[0] // 2, pixels.shape[1] // 2, 1]), tuple(levels)
        context = levels["context"]
        red = (context[..., 0] > 150) & (context[..., 1] < 90)
        middle = int(np.nonzero(red)[1].mean())
        return _person_of(context[context.shape[0] // 2, middle, 1]), tuple(levels)


def made_by(result: dict[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """RESULT with other fields of ``model``."""
    return {**result, "model": {**result["model"], **model}}


@functools.cache
def guess(labels: tuple[str, ...], share: float, seed: str) -> tuple[str, ...]:
    """Each of the labels with this probability, and each other one with 0.05."""
    chance = random.Random(f"{labels} {seed}")
    return tuple(x for x in EMOTIC_LABELS if chance.random() < (share if x in labels else 0.05))


def _person_of(grey: int) -> int:
    return round((int(grey) - DARKEST) / STEP)
