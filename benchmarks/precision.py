"""Average precision with confidence intervals, and what differs between two runs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, samples: np.ndarray) -> Interval:
        """The percentile interval of bootstrap samples (NaN: a sample without an example)."""
        tail = 100 * (1 - CONFIDENCE) / 2
        if np.isnan(value) or np.isnan(samples).all():
            return cls(float(value), float("nan"), float("nan"))
        low, high = np.nanpercentile(samples, [tail, 100 - tail])
        return cls(float(value), float(low), float(high))

    def as_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


def average_precision(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """AP of each category, as scikit-learn computes it; NaN where there is no example.

    Args:
        truth: BOOL [N, C].
        scores: FP64 [N, C].
        weights: FP64 [N], how often each person counts.

    >>> average_precision(np.array([[1], [0], [1]]), np.array([[.9], [.8], [.7]])).round(3)
    array([0.833])
    """
    counts = truth.T @ (np.ones(len(truth)) if weights is None else weights)
    return np.array(
        [
            average_precision_score(truth[:, c], scores[:, c], sample_weight=weights) if counts[c] > 0 else np.nan
            for c in range(truth.shape[1])
        ]
    )


def resamplings(groups: Sequence[int], repeats: int, seed: int = 0) -> np.ndarray:
    """Bootstrap weights FP64 [repeats, N]: images are drawn with replacement, and their persons with them.

    Args:
        groups: the image of each person.
        repeats: number of samples.
    """
    indices = np.unique(np.asarray(groups), return_inverse=True)[1]
    images = int(indices.max()) + 1
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=repeats)
    return draws[:, indices].astype(np.float64)


BLOCK = 200_000
"""Weights that are looked at at once: as many as a processor's cache holds."""


def bootstrap_ap(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AP FP64 [repeats, C] of each resampling: what ``average_precision`` says, for all of them at once.

    Args:
        truth: BOOL [N, C].
        scores: FP64 [N, C].
        weights: FP64 [repeats, N].
    """
    rows = max(1, BLOCK // max(1, len(truth)))
    blocks = [weights[start : start + rows] for start in range(0, len(weights), rows)]
    columns = range(truth.shape[1])
    return np.vstack([np.stack([_weighted_ap(truth[:, c], scores[:, c], one) for c in columns], 1) for one in blocks])


def _weighted_ap(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AP FP64 [R] of one category; equal scores are one threshold."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    ranked = weights[:, order]
    right = np.cumsum(ranked * truth[order], axis=1)[:, ends]
    above = np.cumsum(ranked, axis=1)[:, ends]
    precision = np.divide(right, above, out=np.zeros_like(right), where=above > 0)
    gains = np.diff(right, axis=1, prepend=0)
    total = right[:, -1]
    return np.divide((gains * precision).sum(axis=1), total, out=np.full_like(total, np.nan), where=total > 0)


def mean(ap: np.ndarray) -> np.ndarray:
    """mAP over the last axis, of the categories that have an example."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a sample in which no category has any
        return np.nanmean(ap, axis=-1)


def top1(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Share of persons whose most probable category is theirs."""
    right = truth[np.arange(len(truth)), scores.argmax(axis=1)]
    return float(np.average(right, weights=weights))
