"""RESULT: the release's dictionary for each person, with the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cocoer_bls.boxes import Person
from cocoer_bls.options import Options

LEVELS = ("head", "body", "context")
"""In the order of the network's ``order``, ``losses`` and lambdas."""
RELEASE_NAMES = {
    "pred": "logits",
    "VI": "vi_logits",
    "head": "head_logits",
    "body": "body_logits",
    "ctx": "context_logits",
}
"""The release's key -> the tensor it is read from."""
LEVEL_KEYS = ("head", "body", "ctx")
"""The release's keys of ``LEVELS``."""


def person_entry(
    number: int, person: Person, row: Mapping[str, np.ndarray], labels: Sequence[str], options: Options
) -> dict[str, Any]:
    """One entry of ``persons``.

    Args:
        number: the person's number, from 1.
        person: boxes in pixels.
        row: the person's row of each tensor of ``recognition``.
        labels: the 26 categories.
        options: thresholds.
    """
    scores = {name: _sigmoid(row[tensor]) for name, tensor in RELEASE_NAMES.items()}
    chosen = {
        name: [
            label
            for label, p in zip(labels, values)
            if p > (options.final_threshold if name == "pred" else options.level_threshold)
        ]
        for name, values in scores.items()
    }
    return {
        "id": number,
        "body_box": list(person.body),
        "head_box": list(person.head),
        **chosen,
        "emo_process": [f"{LEVELS[level]}-level" for level in row["order"]],
        "scores": {name: values.tolist() for name, values in scores.items()},
        "refined": dict(zip(LEVEL_KEYS, _sigmoid(row["refined_logits"]).tolist())),
        "losses": _by_level(row["losses"], LEVELS),
        "coordination": coordination_entry(row),
    }


def coordination_entry(row: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """How the levels were weighed: over all three, then without the one excluded first."""
    remaining = [level for index, level in enumerate(LEVELS) if index != row["order"][0]]
    return {
        "lambda_w1": _by_level(row["lambda_w1"], LEVELS),
        "lambda_b1": _by_level(row["lambda_b1"], LEVELS),
        "lambda_w2": _by_level(row["lambda_w2"], remaining),
        "lambda_b2": _by_level(row["lambda_b2"], remaining),
        "grad_distance": float(row["grad_distance"][0]),
    }


def _by_level(values: np.ndarray, levels: Sequence[str]) -> dict[str, float]:
    return {level: float(value) for level, value in zip(levels, values)}


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """In float64: a float32 probability near 1 has lost the logit."""
    return 1 / (1 + np.exp(-logits.astype(np.float64)))
