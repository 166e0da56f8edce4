"""The paper's figure as a page: for each person the images as sent, and what was answered in each mode.

CocoER (CVPR 2025) marks the level that it eliminates red, and labels that are newly inferred without it blue. The page
does too, and says both in words, since colours alone don't reach everyone. Everything is inline, nothing is a script.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cocoer_client.drawing.pages import template
from cocoer_client.files import replace_file
from cocoer_client.reading import warnings_of
from cocoer_client.terminal import printable
from cocoer_client.vlm.asking import Asked, Questions, Subject
from cocoer_client.vlm.crops import Crops
from cocoer_client.vlm.endpoint import EndpointOptions
from cocoer_client.vlm.people import Recognised
from cocoer_client.vlm.report_person import STATUS, images_of, link_to, paragraphs, person_of
from cocoer_client.vlm.report_totals import totals_of

TEMPLATE = Path(__file__).with_name("report.html.j2")
MOST = 200
MOST_BYTES = 64 << 20
"""Persons on a page, and bytes of their images, which are a third more as text: of large photos, some 90 persons.
Browsers open a page of that size. The JSON has all."""
DAMAGED = "DAMAGED IMAGE"
"""So ``warnings_of`` begins what concerns one image."""
Person = tuple[Subject, Sequence[Asked]]


@dataclass(frozen=True)
class About:
    """What the persons have in common.

    Args:
        questions: how they were asked about.
        endpoint: whom; its key is not written.
        images: all that were recognised, in their order, with those that failed or show nobody.
        notes: what the server did not take of requests.
        date: when.
    """

    questions: Questions
    endpoint: EndpointOptions
    images: Sequence[Recognised] = ()
    notes: Sequence[str] = ()
    date: datetime = field(default_factory=lambda: datetime.now().astimezone())


@dataclass(frozen=True)
class _File:
    """An image's part of the page.

    Args:
        name, problem, warnings: as shown.
        found: how many persons the image has, shown or not.
        people: with each one's number on the page, from 1.
        labels: the 26.
    """

    name: str
    problem: str
    warnings: Sequence[str]
    found: int
    people: Sequence[tuple[int, Person]]
    labels: Sequence[str]

    @property
    def persons(self) -> Iterator[dict[str, Any]]:
        """Made ready when their turn comes, one after the other: their images are large."""
        return (person_of(number, subject, asked, self.labels) for number, (subject, asked) in self.people)

    @property
    def links(self) -> list[dict[str, Any]]:
        """To each person."""
        return [link_to(number, subject, asked) for number, (subject, asked) in self.people]


def write_report(
    path: Path, people: Sequence[Person], about: About, most: int = MOST, most_bytes: int = MOST_BYTES
) -> None:
    """Write the page atomically, person by person: no more than one of them is in memory as text.

    Args:
        path: the HTML file.
        people: each person, with the modes in the order in which they were asked.
        about: the run.
        most: persons that are shown, the first of them; of more, the page says that there are.
        most_bytes: of their images together; the first person is shown in any case.

    Raises:
        OSError: it can't be written.
    """
    shown = people[: _number_shown(people[:most], most_bytes)]
    pieces = template(TEMPLATE).generate(
        model=printable(about.endpoint.model),
        host=urlsplit(about.endpoint.base_url).netloc,
        prompt=about.questions.prompt,
        prompt_version=printable(about.questions.prompt.version),
        prompt_text=paragraphs(about.questions.prompt.text),
        images=about.questions.images,
        detail=about.questions.detail,
        as_collage=about.questions.images.collage,
        max_tokens=about.endpoint.max_tokens,
        date=about.date,
        modes=about.questions.modes,
        notes=[printable(note) for note in about.notes],
        status=STATUS,
        warnings=_warnings(about.images),
        totals=totals_of(people, about.questions.modes),
        files=_files(shown, about),
        people=len(people),
        shown=len(shown),
    )

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(pieces)

    replace_file(path, write)


def without_images(subject: Subject, asked: Sequence[Asked]) -> Person:
    """A person that is counted on a page, and not shown."""
    return replace(subject, levels=Crops({})), [replace(one, images=()) for one in asked]


def _number_shown(people: Sequence[Person], most_bytes: int) -> int:
    """How many of the first persons have not more than that many bytes of images."""
    sizes = (sum(len(image.data) for image in images_of(subject, asked)) for subject, asked in people)
    return sum(number == 0 or total <= most_bytes for number, total in enumerate(accumulate(sizes)))


def _warnings(images: Sequence[Recognised]) -> list[str]:
    """Each once, with the number of images where it is not all of them."""
    counts: dict[str, int] = {}
    results = [image.result for image in images if image.result]
    for result in results:
        for warning in warnings_of(result):
            # What is wrong with one image is said where that is shown.
            kind = DAMAGED if warning.startswith(DAMAGED) else warning
            counts[kind] = counts.get(kind, 0) + 1
    return [
        printable(warning) + ("" if count == len(results) else f" (in {count} of {len(results)} images)")
        for warning, count in counts.items()
    ]


def _files(people: Sequence[Person], about: About) -> list[_File]:
    """Each image with its persons, in the run's order; those that have none too, with the reason."""
    recognised = {image.source.name: image for image in about.images}
    members: dict[str, list[tuple[int, Person]]] = {name: [] for name in recognised}
    for number, person in enumerate(people, 1):
        members.setdefault(person[0].file, []).append((number, person))
    return [_file(name, recognised.get(name), own, about.questions.labels) for name, own in members.items()]


def _file(name: str, image: Recognised | None, own: Sequence[tuple[int, Person]], labels: Sequence[str]) -> _File:
    problem, damage, found = "", [], len(own)
    if image and image.result:
        damage = [text for text in warnings_of(image.result) if text.startswith(DAMAGED)]
        found = len(image.result["persons"])
    elif image:
        problem = image.error
    return _File(printable(name), printable(problem), [printable(text) for text in damage], found, own, labels)
