"""Probabilities of labels by a vision-language model: one yes/no question for each label, in each mode."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cocoer_client.ordered import is_ending
from cocoer_client.vlm.answers import yes_probability
from cocoer_client.vlm.asking import Asker, Subject
from cocoer_client.vlm.cost import Estimate
from cocoer_client.vlm.crops import SentImage
from cocoer_client.vlm.endpoint import RequestFailed, Usage
from cocoer_client.vlm.modes import Mode

TRIES = 3
"""Answers without log-probabilities, and none with them, after which the model is taken to give none: nothing more is
paid for then."""


@dataclass
class YesNo:
    """Asks about each label of a person. Threads may share it.

    Args:
        asker: of the questions for labels, with its cache.
    """

    asker: Asker
    usage: Usage = field(default=Usage(), init=False)
    """Tokens of what was asked in this run."""
    failed: int = field(default=0, init=False)
    """Persons of whom a question has no answer."""
    _with: int = field(default=0, init=False)
    _without: int = field(default=0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def gives_none(self) -> bool:
        """Whether the model gives no log-probabilities, by what was seen."""
        return self._without >= TRIES and not self._with

    def ask(self, subject: Subject) -> dict[Mode, np.ndarray] | None:
        """Mode -> FP64 [26]; None: a question has no answer, or one that says neither yes nor no.

        Raises:
            EndpointUnusable: nobody will be answered.
        """
        questions = self.asker.questions
        found: dict[Mode, np.ndarray] = {}
        for mode in questions.modes:
            images, row = questions.sent(subject, mode), []
            for label in questions.labels:
                probability = None if is_ending() or self.gives_none else self._probability(images, label)
                if probability is None:
                    return None
                row.append(probability)
            found[mode] = np.array(row)
        return found

    def estimate(self, subject: Subject) -> Estimate:
        """What ``ask`` will cost."""
        questions, seen, total = self.asker.questions, set[str](), Estimate()
        for mode in questions.modes:
            images = questions.sent(subject, mode)
            for label in questions.labels:
                total += self.asker.cost_of(self._body(images, label), images, seen, 1)
        return total

    def _body(self, images: Sequence[SentImage], label: str) -> dict[str, Any]:
        questions = self.asker.questions
        return self.asker.endpoint.body(
            questions.prompt.yes_or_no(images, label, questions.detail), None, probabilities=True
        )

    def _probability(self, images: Sequence[SentImage], label: str) -> float | None:
        try:
            reply, kept = self.asker.reply_to(self._body(images, label))
        except RequestFailed:
            with self._lock:
                self.failed += 1
            return None
        with self._lock:
            self.usage += Usage() if kept else reply.usage
            self._with += bool(reply.first_token)
            self._without += not reply.first_token
        return yes_probability(reply.first_token)
