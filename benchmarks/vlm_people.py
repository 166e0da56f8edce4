"""The annotated persons of a data set: recognised by the served CocoER in their boxes, cut out for the other model."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.datasets import Example
from benchmarks.predictions import ask_about, image_of
from cocoer_client import CocoerClient, CocoerError, Person
from cocoer_client.drawing.images import open_as_served
from cocoer_client.key import require_same_model
from cocoer_client.ordered import in_order
from cocoer_client.vlm.asking import Subject
from cocoer_client.vlm.cost import Estimate
from cocoer_client.vlm.crops import Cutter, ImageOptions


@dataclass(frozen=True)
class Reading:
    """How a data set's images are read and recognised.

    Args:
        root: the directory that files are named from, so that names are the same wherever it lies.
        guess_heads: guess a head in a body in which no face is found.
        array_order: of the channels in ``.npy`` files: rgb or bgr.
        images: how they are sent.
    """

    root: Path
    guess_heads: bool
    array_order: str
    images: ImageOptions

    def name(self, example: Example) -> str:
        """Of an image."""
        try:
            return example.image.relative_to(self.root).as_posix()
        except ValueError:
            return str(example.image)

    def picture(self, example: Example) -> Image.Image:
        """RGB, upright, with the pixels that RESULT's boxes count."""
        image, _ = image_of(example, self.array_order)
        return open_as_served(image.read_bytes()) if isinstance(image, Path) else Image.fromarray(image).convert("RGB")


@dataclass(frozen=True)
class Annotated:
    """An annotated person that CocoER has answered.

    Args:
        image: the index of the image in the data set.
        person: of RESULT; its ``id`` is the person's number in the annotations of the image, from 1.
        labels: the annotators'.
        guessed: the head was guessed.
    """

    image: int
    person: dict[str, Any]
    labels: frozenset[str]
    guessed: bool


@dataclass(frozen=True)
class Recognised:
    """An image.

    Args:
        index: in the data set.
        example: of the data set.
        persons: those who were answered.
        nobody: persons in whose box no face was found; of a folder's image, in which nobody was.
        refused: persons whose boxes the server refused, with its message.
        failure: why the image has no answer; empty: it has one.
        cost: of asking about its persons.
    """

    index: int
    example: Example
    persons: tuple[Annotated, ...] = ()
    nobody: int = 0
    refused: list[str] = field(default_factory=list)
    failure: str = ""
    cost: Estimate = Estimate()


def recognise(
    client: CocoerClient, examples: Sequence[Example], reading: Reading, about: dict[str, Any], concurrency: int
) -> Generator[Recognised, None, None]:
    """RESULT of each image's annotated persons, in the data set's order; what fails, fails alone.

    Args:
        client: of the server.
        examples: images and their persons.
        reading: how.
        about: RESULT's ``model`` at the beginning.
        concurrency: images on their way at once.

    Raises:
        ServerUnavailable: the server is gone.
        ModelChanged: its model is another one than at the beginning.
    """

    def one(item: tuple[int, Example]) -> Recognised:
        index, example = item
        answer = ask_about(client, example, reading.guess_heads, reading.array_order)
        if answer.failure:
            return Recognised(index, example, failure=answer.failure)
        if answer.model is not None:
            require_same_model(about, {"model": answer.model.model_dump()})
        persons = tuple(
            Annotated(index, _numbered(person, number), subject.labels, number - 1 in answer.guessed)
            for number, (subject, person) in enumerate(zip(example.subjects, answer.persons), 1)
            if person is not None
        )
        nobody = len(example.subjects) - len(persons) - len(answer.refused)
        return Recognised(index, example, persons, nobody, answer.refused)

    return in_order(one, enumerate(examples), concurrency)


def _numbered(person: Person, number: int) -> dict[str, Any]:
    """As RESULT has it; who was asked for again, with a guessed head, has a number of that request there."""
    return person.model_dump(mode="json") | {"id": number}


def subjects_of(image: Recognised, reading: Reading) -> list[tuple[Annotated, Subject]]:
    """An image's persons, cut out.

    Raises:
        InvalidInput: Pillow can't read the image, or a box is not inside it.
        OSError, ValueError, EOFError: it can't be read.
    """
    if not image.persons:
        return []
    cutter, name = Cutter(reading.picture(image.example), reading.images), reading.name(image.example)
    return [(one, Subject(name, one.person, cutter.crops(one.person))) for one in image.persons]


def people(
    images: Iterable[Recognised], reading: Reading, failures: list[str]
) -> Generator[tuple[Annotated, Subject], None, None]:
    """All persons; each image is read and cut when its turn comes.

    Args:
        images: recognised ones.
        reading: how.
        failures: takes a message for each image that can't be read.
    """
    for image in images:
        try:
            yield from subjects_of(image, reading)
        except (CocoerError, OSError, ValueError, EOFError) as error:
            failures.append(f"{image.example.image}: {error}")
