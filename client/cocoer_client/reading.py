"""What is read off a RESULT before it is shown, in text and in images alike: labels by probability, and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def ranked(person: Mapping[str, Any], key: str, labels: Sequence[str]) -> list[tuple[str, float]]:
    """The labels chosen for a key of ``scores``, the most probable first, with their probabilities.

    >>> ranked({"pred": ["a", "c"], "scores": {"pred": [0.5, 0.1, 0.9]}}, "pred", ["a", "b", "c"])
    [('c', 0.9), ('a', 0.5)]
    """
    probability = dict(zip(labels, person["scores"][key]))
    return sorted(((label, probability[label]) for label in person[key]), key=lambda pair: -pair[1])


def warnings_of(result: Mapping[str, Any], boxes_given: bool = False) -> list[str]:
    """What must not be overlooked about how a result was made.

    Args:
        result: the RESULT object.
        boxes_given: the boxes came with the request, so that the detector, not used, is not warned of.
    """
    model = result["model"]
    warnings = []
    if model["synthetic"]:
        warnings.append("SYNTHETIC WEIGHTS: random numbers, these are not predictions")
    if result["image"].get("damage"):
        warnings.append(f"DAMAGED IMAGE: {result['image']['damage']}")
    if boxes_given:
        return warnings
    if model["detector"].startswith("opencv"):
        warnings.append("FALLBACK DETECTOR: OpenCV face cascade, body boxes are guesses")
    elif "synthetic" in model["detector"]:
        warnings.append("SYNTHETIC DETECTORS: boxes are random")
    return warnings
