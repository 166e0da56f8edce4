"""``--smooth``: a person's probabilities as an exponential mean over time, which needs no frame to come."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FORGET_S = 10.0
"""Seconds after which a track that is not seen is forgotten (it has long ended by then)."""


@dataclass
class Mean:
    """Of one track."""

    time_s: float
    scores: dict[str, list[float]]


class Smoother:
    """Means of the tracks of a film.

    At each frame ``mean += (1 - exp(-passed / seconds)) * (score - mean)``, with the seconds passed since the track's
    frame before; the first frame's scores are the first mean. So a change is followed to 63% after ``seconds``, however
    many frames come in them.

    Args:
        seconds: the time constant, above 0.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.means: dict[int, Mean] = {}

    def smooth(self, track: int, time_s: float, scores: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        """A person's mean with this frame in it.

        Args:
            track: the person's.
            time_s: of the frame.
            scores: RESULT's ``scores`` of the person.

        Returns:
            the same keys, the same number of probabilities.
        """
        mean = self.means.get(track)
        if mean is None:
            mean = self.means[track] = Mean(time_s, {key: list(values) for key, values in scores.items()})
        else:
            share = 1 - math.exp(-max(0.0, time_s - mean.time_s) / self.seconds)
            mean.time_s = max(time_s, mean.time_s)
            mean.scores = {
                key: [old + share * (new - old) for old, new in zip(mean.scores[key], values)]
                for key, values in scores.items()
            }
        self.means = {key: value for key, value in self.means.items() if time_s - value.time_s < FORGET_S}
        return {key: [round(value, 6) for value in values] for key, values in mean.scores.items()}


def chosen(
    scores: Mapping[str, Sequence[float]], labels: Sequence[str], final_threshold: float, level_threshold: float
) -> dict[str, Any]:
    """The lists of labels, as the server makes them of scores.

    Args:
        scores: RESULT's ``scores`` of a person, or their means.
        labels: RESULT's ``labels``.
        final_threshold: of ``pred``.
        level_threshold: of the others.
    """
    return {
        key: [
            label
            for label, value in zip(labels, values)
            if value > (final_threshold if key == "pred" else level_threshold)
        ]
        for key, values in scores.items()
    }


class Threshold:
    """One that decided which labels were chosen.

    Args:
        usual: the server's, unless its answers show another.
        given: the one that was asked for; None: the server's own.
    """

    def __init__(self, usual: float, given: float | None = None) -> None:
        self.usual, self.given = usual, given
        self.low, self.high = 0.0, 1.0

    def learn(self, labels: Sequence[str], listed: Sequence[str], values: Sequence[float]) -> None:
        """See which labels an answer lists, and which it leaves out.

        Args:
            labels: RESULT's.
            listed: those chosen.
            values: all their probabilities.
        """
        inside = set(listed)
        self.low = max([self.low, *(value for label, value in zip(labels, values) if label not in inside)])
        self.high = min([self.high, *(value for label, value in zip(labels, values) if label in inside)])

    @property
    def value(self) -> float:
        """The one given; else the usual one, or what is nearest to it of what the answers allow.

        >>> server_with_another = Threshold(usual=0.26)
        >>> server_with_another.learn(["peace", "anger"], ["peace"], [0.7, 0.4])
        >>> server_with_another.value
        0.4
        """
        if self.given is not None:
            return self.given
        return min(max(self.usual, self.low), max(self.high - 1e-9, self.low))
