"""What a run of ``benchmarks/vlm.py`` found, and the arrays that its figures are made of."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.datasets import DataSet
from benchmarks.vlm_people import Annotated, Recognised
from benchmarks.vlm_probabilities import YesNo
from cocoer_client import ModelInfo
from cocoer_client.vlm.answers import KINDS, Answer
from cocoer_client.vlm.asking import Asked, Questions
from cocoer_client.vlm.endpoint import EndpointOptions, Usage
from cocoer_client.vlm.modes import Mode

COCOER = "CocoER"
"""The way that is no question: the served model's own labels."""


@dataclass(frozen=True)
class Outcome:
    """A person and the answers.

    Args:
        annotated: the person.
        file: the image's name.
        asked: in each mode.
        probabilities: mode -> FP64 [26]; None: not asked for, or not all are there.
    """

    annotated: Annotated
    file: str
    asked: Sequence[Asked]
    probabilities: dict[Mode, np.ndarray] | None = None

    @property
    def has_failed(self) -> bool:
        """Whether a mode has no answer, for a fault of the network or the server."""
        return any(one.answer.kind == "failed" for one in self.asked)

    @property
    def is_read(self) -> bool:
        """Whether each mode's answer has labels, or says that there are none."""
        return all(one.answer.is_read for one in self.asked)


@dataclass
class Run:
    """All of it.

    Args:
        args: the command line.
        data: what was read.
        questions, endpoint: how, and whom.
        model: the served CocoER.
        images: of the data set.
        outcomes: persons that were asked about.
        unread: images that could be recognised and then not be read.
        yes_no: of the labels' probabilities; None: not asked for.
        notes: what the model's server does not take of requests.
    """

    args: argparse.Namespace
    data: DataSet
    questions: Questions
    endpoint: EndpointOptions
    model: ModelInfo
    images: list[Recognised] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    yes_no: YesNo | None = None
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> list[Outcome]:
        """Persons that are left out of all modes, since one has no answer."""
        return [one for one in self.outcomes if one.has_failed]

    @property
    def compared(self) -> list[Outcome]:
        """Persons that figures are made of. Refusals and answers that can't be read are among them, as empty ones."""
        return [one for one in self.outcomes if not one.has_failed]

    def kinds(self) -> dict[str, dict[str, int]]:
        """Mode -> kind -> number of answers."""
        counts = {mode: Counter(one.answer.kind for one in self._asked(mode)) for mode in self.questions.modes}
        return {mode: {kind: count[kind] for kind in KINDS} for mode, count in counts.items()}

    def excluded(self) -> dict[str, dict[str, int]]:
        """Mode -> level -> how often it was left out, of the modes that leave one out."""
        counts = {mode: Counter(one.excluded for one in self._asked(mode)) for mode in self.questions.modes}
        return {
            mode: {level: count[level] for level in ("head", "body", "context")}
            for mode, count in counts.items()
            if set(count) - {None}
        }

    def coincide(self) -> int | None:
        """Persons for whom ``enhanced`` and ``exclude_random`` left out the same; None: not both were asked."""
        if not {"enhanced", "exclude_random"} <= set(self.questions.modes):
            return None
        levels = [{one.mode: one.excluded for one in outcome.asked} for outcome in self.compared]
        return sum(one["enhanced"] == one["exclude_random"] for one in levels)

    def usage(self) -> Usage:
        """Tokens of what was asked in this run."""
        labels = sum((one.usage for outcome in self.outcomes for one in outcome.asked if not one.cached), Usage())
        return labels + (self.yes_no.usage if self.yes_no else Usage())

    def kept(self) -> int:
        """Answers for labels that were there already, or are those of another mode that sends the same."""
        return sum(one.cached for outcome in self.outcomes for one in outcome.asked)

    def _asked(self, mode: Mode) -> list[Asked]:
        return [one for outcome in self.outcomes for one in outcome.asked if one.mode == mode]


def labels_of(answer: Answer) -> tuple[str, ...]:
    """What counts of an answer: of one that is refused, cut off or can't be read, nothing."""
    return answer.labels if answer.is_read else ()


@dataclass(frozen=True)
class Arrays:
    """Persons as arrays.

    Args:
        truth: BOOL [N, 26], the annotations.
        images: INT64 [N].
        answers: way -> BOOL [N, 26]; ``COCOER`` is one.
    """

    truth: np.ndarray
    images: np.ndarray
    answers: dict[str, np.ndarray]

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], labels: Sequence[str]) -> Arrays:
        """Of persons that have an answer in each mode."""

        def rows(chosen: Sequence[Sequence[str] | frozenset[str]]) -> np.ndarray:
            return np.array([[label in names for label in labels] for names in chosen], dtype=bool)

        answers = {COCOER: rows([one.annotated.person["pred"] for one in outcomes])}
        for place, asked in enumerate(outcomes[0].asked):
            answers[asked.mode] = rows([labels_of(one.asked[place].answer) for one in outcomes])
        truth = rows([one.annotated.labels for one in outcomes])
        return cls(truth, np.array([one.annotated.image for one in outcomes]), answers)


def probabilities_of(outcomes: Sequence[Outcome]) -> dict[str, np.ndarray]:
    """Way -> FP64 [N, 26], of persons that have them all."""
    found = {COCOER: np.array([one.annotated.person["scores"]["pred"] for one in outcomes])}
    for mode in outcomes[0].probabilities or {}:
        found[mode] = np.array([(one.probabilities or {})[mode] for one in outcomes])
    return found
