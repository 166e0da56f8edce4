"""What labels that were answered are worth: precision, recall, F1, and what differs between two ways of asking.

Intervals are of the bootstrap over images: persons of one image share the scene, and often their labels, so that each
is less than a piece of evidence of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.precision import Interval, average_precision, bootstrap_ap, mean, resamplings

FIGURES = ("micro precision", "micro recall", "micro F1", "macro precision", "macro recall", "macro F1", "labels")
"""The last is the mean number of labels in an answer."""
PAIRS = (
    ("enhanced", "multi"),
    ("multi", "single"),
    ("enhanced", "exclude_random"),
    ("enhanced", "exclude_last"),
)
"""What is compared: the first less the second."""
Figures = Mapping[str, Interval]


@dataclass(frozen=True)
class Scores:
    """Figures of several ways on the same persons.

    Args:
        persons, images: how many.
        occurring: labels that any of the persons has: macro figures are means over these.
        ways: way -> figure -> interval.
        differences: (way, way) -> figure -> the first less the second, on the same resamplings.
    """

    persons: int
    images: int
    occurring: int
    ways: Mapping[str, Figures]
    differences: Mapping[tuple[str, str], Figures]


def score(truth: np.ndarray, answers: Mapping[str, np.ndarray], images: np.ndarray, repeats: int) -> Scores:
    """Figures with intervals, and the differences of ``PAIRS``.

    Args:
        truth: BOOL [N, C], N at least 1.
        answers: way -> BOOL [N, C], of the same persons.
        images: INT64 [N], the image of each.
        repeats: bootstrap resamplings; the same for all ways.
    """
    count = len(np.unique(images))
    weights = resamplings(images.tolist(), repeats)
    found = {way: figures(truth, given, np.ones((1, len(truth)))) for way, given in answers.items()}
    samples = {way: figures(truth, given, weights) for way, given in answers.items()}

    def of(value: np.ndarray, sampled: np.ndarray) -> Interval:
        return interval(float(value[0]), sampled, count)

    return Scores(
        persons=len(truth),
        images=count,
        occurring=int(truth.any(axis=0).sum()),
        ways={way: {name: of(found[way][name], samples[way][name]) for name in FIGURES} for way in answers},
        differences={
            (one, other): {
                name: of(found[one][name] - found[other][name], samples[one][name] - samples[other][name])
                for name in FIGURES
            }
            for one, other in PAIRS
            if one in answers and other in answers
        },
    )


def figures(truth: np.ndarray, given: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each of ``FIGURES`` FP64 [R]. A ratio of nothing is 0, as of precision where no label was answered.

    Micro: over all pairs of a person and a label. Macro: of each label alone, then the mean over the labels that occur
    among the persons; what was answered of other labels counts in micro precision alone.

    Args:
        truth: BOOL [N, C].
        given: BOOL [N, C].
        weights: FP64 [R, N], how often each person counts.

    >>> truth, given = np.array([[1, 1, 0], [0, 1, 0]], dtype=bool), np.array([[1, 0, 0], [0, 1, 1]], dtype=bool)
    >>> {name: round(float(value[0]), 3) for name, value in figures(truth, given, np.ones((1, 2))).items()}
    ... # doctest: +NORMALIZE_WHITESPACE
    {'micro precision': 0.667, 'micro recall': 0.667, 'micro F1': 0.667, 'macro precision': 1.0, 'macro recall': 0.75,
     'macro F1': 0.833, 'labels': 1.5}
    """
    right = weights @ (truth & given).astype(np.float64)  # [R, C]
    answered = weights @ given.astype(np.float64)
    there = weights @ truth.astype(np.float64)
    occurs = there > 0
    rows = {"micro": [array.sum(axis=1) for array in (right, answered, there)]}
    result: dict[str, np.ndarray] = {}
    result |= {f"micro {name}": value for name, value in _ratios(*rows["micro"]).items()}
    result |= {
        f"macro {name}": _ratio((value * occurs).sum(axis=1), occurs.sum(axis=1))
        for name, value in _ratios(right, answered, there).items()
    }
    return {**result, "labels": _ratio(answered.sum(axis=1), weights.sum(axis=1))}


def _ratios(right: np.ndarray, answered: np.ndarray, there: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "precision": _ratio(right, answered),
        "recall": _ratio(right, there),
        "F1": _ratio(2 * right, answered + there),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole > 0)


def interval(value: float, samples: np.ndarray, images: int) -> Interval:
    """The percentile interval; of one image there is none: its resamplings are all the same."""
    return Interval.of(value, samples if images > 1 else np.full_like(samples, np.nan))


@dataclass(frozen=True)
class Precisions:
    """Average precision of several ways on the same persons.

    Args:
        persons: that have a probability of every label in every way.
        ways: way -> mAP.
        labels: way -> AP of each label; NaN where it does not occur.
        differences: as of ``Scores``.
    """

    persons: int
    ways: Mapping[str, Interval]
    labels: Mapping[str, Sequence[float]]
    differences: Mapping[tuple[str, str], Interval]


def score_probabilities(
    truth: np.ndarray, probabilities: Mapping[str, np.ndarray], images: np.ndarray, repeats: int
) -> Precisions:
    """mAP with intervals, over the labels that occur.

    Args:
        truth: BOOL [N, C].
        probabilities: way -> FP64 [N, C].
        images: INT64 [N].
        repeats: bootstrap resamplings; the same for all ways.
    """
    weights, count = resamplings(images.tolist(), repeats), len(np.unique(images))
    precisions = {way: average_precision(truth, given) for way, given in probabilities.items()}
    values = {way: float(mean(ap)) for way, ap in precisions.items()}
    samples = {way: mean(bootstrap_ap(truth, given, weights)) for way, given in probabilities.items()}
    return Precisions(
        persons=len(truth),
        ways={way: interval(values[way], samples[way], count) for way in probabilities},
        labels={way: ap.tolist() for way, ap in precisions.items()},
        differences={
            (one, other): interval(values[one] - values[other], samples[one] - samples[other], count)
            for one, other in PAIRS
            if one in probabilities and other in probabilities
        },
    )


def verdict(difference: Interval) -> str:
    """What a difference's interval says, in words.

    >>> [verdict(Interval(0.1, *bounds)) for bounds in ((-0.1, 0.2), (0.05, 0.2), (float("nan"), float("nan")))]
    ['no difference shown', 'more', 'not known']
    """
    if np.isnan(difference.low):
        return "not known"
    if difference.low <= 0 <= difference.high:
        return "no difference shown"
    return "more" if difference.low > 0 else "less"
