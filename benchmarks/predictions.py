"""What the served model says of the annotated persons of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from benchmarks.datasets import Box, Example, Subject
from cocoer_client import CocoerClient, CocoerError, ModelInfo, Person
from cocoer_client.errors import is_gone
from cocoer_client.inputs import BoxPair
from cocoer_client.ordered import in_order


@dataclass(frozen=True)
class Predictions:
    """Rows are annotated persons, in the data set's order."""

    model: ModelInfo | None
    labels: tuple[str, ...]
    images: np.ndarray
    """INT64 [N]: the image of each."""
    truth: np.ndarray
    """BOOL [N, 26]."""
    scores: np.ndarray
    """FP64 [N, 26]: final probabilities; NaN where there is no answer."""
    failures: list[str] = field(default_factory=list)
    """Images that the server refused, with its message."""
    guessed: int = 0
    """Persons whose head was guessed."""

    @property
    def answered(self) -> np.ndarray:
        """BOOL [N]."""
        return ~np.isnan(self.scores[:, 0])


def predict(
    client: CocoerClient, examples: Sequence[Example], labels: Sequence[str], concurrency: int, guess_heads: bool
) -> Predictions:
    """Ask about every image, with its annotated boxes.

    Args:
        client: the connection.
        examples: images and their persons.
        labels: the server's.
        concurrency: images on their way at once.
        guess_heads: take the upper middle of a body in which no face is found.

    Raises:
        ServerUnavailable: the server is gone.
    """

    def ask(example: Example) -> tuple[list[Person | None], ModelInfo | None, int, str | None]:
        try:
            persons, model = _persons(client, example)
            guessed = _guess(client, example, persons) if guess_heads else 0
            return persons, model, guessed, None
        except CocoerError as error:
            if is_gone(error):
                raise
            return [None] * len(example.subjects), None, 0, f"{example.image}: {error}"

    truth, scores, images, failures = [], [], [], []
    answered_by, guessed_heads = None, 0
    answers = in_order(ask, examples, concurrency)
    bar = tqdm(zip(examples, answers), total=len(examples), unit="image", disable=None)
    for index, (example, (persons, model, guessed, failure)) in enumerate(bar):
        answered_by = answered_by or model
        guessed_heads += guessed
        failures += [failure] if failure else []
        for subject, person in zip(example.subjects, persons):
            images.append(index)
            truth.append([label in subject.labels for label in labels])
            scores.append([np.nan] * len(labels) if person is None else list(person.scores["pred"].values()))
    arrays = np.array(images), np.array(truth), np.array(scores, dtype=np.float64)
    return Predictions(answered_by, tuple(labels), *arrays, failures, guessed_heads)


def _persons(client: CocoerClient, example: Example) -> tuple[list[Person | None], ModelInfo]:
    """The answer for each annotated person; None where no face was found."""
    if example.subjects[0].body is None:
        result = client.infer(example.image)
        largest = max(result.persons, key=lambda person: _area(person.body_box), default=None)
        return [largest], result.model
    result = client.infer(example.image, [_pair(subject, subject.head) for subject in example.subjects])
    by_number = {person.id: person for person in result.persons}
    return [by_number.get(index + 1) for index in range(len(example.subjects))], result.model


def _guess(client: CocoerClient, example: Example, persons: list[Person | None]) -> int:
    """Fill in those without a face; how many."""
    missing = {
        index: _pair(subject, guess_head(subject.body))
        for index, (subject, person) in enumerate(zip(example.subjects, persons))
        if person is None and subject.body is not None
    }
    if missing:
        for index, person in zip(missing, client.infer(example.image, list(missing.values())).persons):
            persons[index] = person
    return len(missing)


def _pair(subject: Subject, head: Box | None) -> BoxPair:
    assert subject.body is not None
    return {"body": list(subject.body), "head": None if head is None else list(head)}


def guess_head(body: Box) -> Box:
    """The upper middle of a standing body: half as wide, a quarter as tall at the most.

    >>> guess_head((0, 0, 40, 120))
    (10.0, 0, 30.0, 24.0)
    """
    x1, y1, x2, y2 = body
    width = (x2 - x1) / 2
    return x1 + width / 2, y1, x2 - width / 2, y1 + min(1.2 * width, (y2 - y1) / 4)


def _area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
