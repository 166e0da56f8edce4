"""What the served model says of the annotated persons of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.datasets import Box, Example, Subject
from cocoer_client import CocoerClient, CocoerError, ModelInfo, Person, Result
from cocoer_client.errors import InvalidRequest, is_gone
from cocoer_client.inputs import BoxPair, ImageLike
from cocoer_client.ordered import in_order

HEAD = (0.382, 0.072, 0.617, 0.240)
"""x1, y1, x2, y2 of a head as fractions of the body box: medians over EMOTIC, of the faces that a detector finds."""


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
    """Images that could not be measured, with the reason."""
    guesses: np.ndarray | None = None
    """BOOL [N]: the head was guessed; None: none was."""
    refused: list[str] = field(default_factory=list)
    """Persons whose boxes the server refused, with its message; the others in their images are answered."""

    @property
    def answered(self) -> np.ndarray:
        """BOOL [N]."""
        return ~np.isnan(self.scores[:, 0])

    @property
    def with_face(self) -> np.ndarray:
        """BOOL [N]: answered, with a head that was annotated or found."""
        return self.answered if self.guesses is None else self.answered & ~self.guesses

    @property
    def guessed(self) -> int:
        """Number of persons whose head was guessed."""
        return int((self.answered & ~self.with_face).sum())


@dataclass
class Answer:
    """What came back for an image."""

    persons: list[Person | None]
    guessed: set[int] = field(default_factory=set)
    """Their indices."""
    model: ModelInfo | None = None
    failure: str = ""
    refused: list[str] = field(default_factory=list)


def predict(
    client: CocoerClient,
    examples: Sequence[Example],
    labels: Sequence[str],
    concurrency: int,
    guess_heads: bool,
    array_order: str = "rgb",
) -> Predictions:
    """Ask about every image, with its annotated boxes.

    Args:
        client: the connection.
        examples: images and their persons.
        labels: the server's.
        concurrency: images on their way at once.
        guess_heads: guess a head in a body in which no face is found.
        array_order: of the channels in ``.npy`` files: rgb or bgr.

    Raises:
        ServerUnavailable: the server is gone.
    """

    def ask(example: Example) -> Answer:
        return ask_about(client, example, guess_heads, array_order)

    truth, scores, images, guesses = [], [], [], []
    failures, refused, answered_by = [], [], None
    answers = in_order(ask, examples, concurrency)
    bar = tqdm(zip(examples, answers), total=len(examples), unit="image", disable=None)
    for index, (example, answer) in enumerate(bar):
        answered_by = answered_by or answer.model
        failures += [answer.failure] if answer.failure else []
        refused += answer.refused
        for number, (subject, person) in enumerate(zip(example.subjects, answer.persons)):
            images.append(index)
            guesses.append(number in answer.guessed)
            truth.append([label in subject.labels for label in labels])
            scores.append([np.nan] * len(labels) if person is None else list(person.scores["pred"].values()))
    arrays = np.array(images), np.array(truth), np.array(scores, dtype=np.float64)
    return Predictions(answered_by, tuple(labels), *arrays, failures, np.array(guesses), refused)


def ask_about(client: CocoerClient, example: Example, guess_heads: bool, array_order: str) -> Answer:
    """Ask about one image; what fails, fails alone. Arguments as of ``predict``.

    Raises:
        ServerUnavailable: the server is gone.
    """
    try:
        return _ask(client, example, guess_heads, array_order)
    except CocoerError as error:
        if is_gone(error):
            raise
        return Answer([None] * len(example.subjects), failure=f"{example.image}: {error}")
    except (OSError, ValueError, EOFError) as error:  # of a damaged .npy
        return Answer([None] * len(example.subjects), failure=f"{example.image}: {error}")


def _ask(client: CocoerClient, example: Example, guess_heads: bool, array_order: str) -> Answer:
    image, scale = image_of(example, array_order)
    if example.subjects[0].body is None:
        result = client.infer(image)
        largest = max(result.persons, key=lambda person: _area(person.body_box), default=None)
        return Answer([largest], model=result.model)
    subjects = [_scaled(subject, scale) for subject in example.subjects]
    pairs = {index: _pair(subject, subject.head) for index, subject in enumerate(subjects)}
    found, result, refused = _infer(client, image, pairs)
    answer = Answer([found.get(index) for index in pairs], model=result.model)
    answer.refused = [f"{example.image}, person {index + 1}: {why}" for index, why in refused.items()]
    missing = [index for index in pairs if index not in found and index not in refused]
    if guess_heads and missing:
        size = (result.image.width, result.image.height)
        heads = {index: _pair(subjects[index], guess_head(subjects[index].body, size)) for index in missing}
        for index, person in _infer(client, image, heads)[0].items():
            answer.persons[index] = person
            answer.guessed.add(index)
    return answer


def _infer(
    client: CocoerClient, image: ImageLike, pairs: Mapping[int, BoxPair]
) -> tuple[dict[int, Person], Result, dict[int, str]]:
    """Persons by the keys of ``pairs`` (absent: no face), an answer, and the refused ones with the reason.

    A box that the server refuses makes it refuse the request: then each person is asked for alone, unless the image is
    the reason.
    """
    keys = list(pairs)
    try:
        result = client.infer(image, list(pairs.values()))
        return {keys[person.id - 1]: person for person in result.persons}, result, {}
    except InvalidRequest:
        result = client.infer(image, [])
    found, refused = {}, {}
    for key, pair in pairs.items():
        try:
            for person in client.infer(image, [pair]).persons:
                found[key] = person
        except InvalidRequest as error:
            refused[key] = str(error)
    return found, result, refused


def image_of(example: Example, array_order: str) -> tuple[Path | np.ndarray, tuple[float, float]]:
    """What to send, and by how much x and y of the boxes are to be scaled."""
    if example.image.suffix != ".npy":
        return example.image, (1.0, 1.0)
    array = np.load(example.image, allow_pickle=False)
    if array_order == "bgr":
        array = np.ascontiguousarray(array[..., ::-1])
    width, height = example.size or (array.shape[1], array.shape[0])
    return array, (array.shape[1] / width, array.shape[0] / height)


def _scaled(subject: Subject, scale: tuple[float, float]) -> Subject:
    def scaled(box: Box | None) -> Box | None:
        return None if box is None else (box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1])

    return Subject(scaled(subject.body), scaled(subject.head), subject.labels)


def _pair(subject: Subject, head: Box | None) -> BoxPair:
    assert subject.body is not None
    return {"body": list(subject.body), "head": None if head is None else list(head)}


def guess_head(body: Box | None, size: tuple[int, int]) -> Box:
    """Where heads are in EMOTIC's bodies; at least a pixel, inside the image.

    Args:
        body: x1, y1, x2, y2 in pixels.
        size: width and height of the image, to which the body is clipped first.

    >>> guess_head((0, 0, 1000, 1000), (2000, 2000))
    (382.0, 72.0, 617.0, 240.0)
    >>> guess_head((-100, 0, 100, 100), (400, 300))
    (38.2, 7.2, 61.7, 24.0)
    """
    assert body is not None
    x1, y1, x2, y2 = (min(max(value, 0), size[axis % 2]) for axis, value in enumerate(body))
    width, height = x2 - x1, y2 - y1
    left, top = x1 + HEAD[0] * width, y1 + HEAD[1] * height
    right, bottom = x1 + HEAD[2] * width, y1 + HEAD[3] * height
    if int(right) <= int(left):
        left = float(min(int(left), size[0] - 1))
        right = left + 1
    if int(bottom) <= int(top):
        top = float(min(int(top), size[1] - 1))
        bottom = top + 1
    return round(left, 3), round(top, 3), round(right, 3), round(bottom, 3)


def _area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
