"""The persons of the user's images: found by the server, cut out for the model."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cocoer_client.client import CocoerClient
from cocoer_client.drawing.images import open_as_served
from cocoer_client.errors import CocoerError, InvalidInput, is_gone
from cocoer_client.key import require_same_model
from cocoer_client.ordered import in_order
from cocoer_client.protocol import Thresholds
from cocoer_client.sources import Source
from cocoer_client.vlm.asking import Asker, Subject
from cocoer_client.vlm.cost import Estimate
from cocoer_client.vlm.crops import Cutter, ImageOptions


@dataclass(frozen=True)
class Recognised:
    """One image.

    Args:
        source: what the user named.
        result: RESULT; None: there is none.
        data: the file, of what may not be read twice; None: it is read again when it is asked about.
        seen: what tells that the file is still the one that was recognised.
        cost: of asking about its persons.
        error: why there is no result.
    """

    source: Source
    result: dict[str, Any] | None = None
    data: bytes | None = None
    seen: dict[str, int] | None = None
    cost: Estimate = Estimate()
    error: str = ""

    def subjects(self, options: ImageOptions, timeout: float) -> list[Subject]:
        """Its persons, cut out.

        Raises:
            InvalidInput, SourceUnavailable: the image has changed, can't be read again, or not by Pillow.
        """
        if not self.result or not self.result["persons"]:
            return []
        if self.data is None and self.source.fingerprint() != self.seen:
            raise InvalidInput("it has changed since it was recognised")
        return _cut(self.source, self.result, self.data or self.source.read(timeout), options)


def recognise(
    client: CocoerClient, sources: Sequence[Source], asker: Asker, thresholds: Thresholds, concurrency: int
) -> Generator[Recognised, None, None]:
    """RESULT of each image and what asking will cost, in their order; what fails, fails alone.

    Args:
        client: of the server.
        sources: images.
        asker: who will ask.
        thresholds: request parameters.
        concurrency: images on their way at once.

    Raises:
        ServerUnavailable: the server is gone.
        ModelChanged: its model is another than at the beginning.
    """
    about = client.model_info().model_dump()

    def one(source: Source) -> Recognised:
        try:
            seen, data = source.fingerprint(), source.read(client.timeout)
            result = client.infer_raw(data, **thresholds)
            cost = sum(map(asker.estimate, _cut(source, result, data, asker.questions.images)), Estimate())
        except (CocoerError, OSError) as error:
            if is_gone(error):
                raise
            return Recognised(source, error=str(error))
        require_same_model(about, result)
        return Recognised(source, result, None if source.is_file else data, seen, cost)

    return in_order(one, sources, concurrency)


def people(
    images: Iterable[Recognised], options: ImageOptions, timeout: float, failures: list[str]
) -> Generator[Subject, None, None]:
    """All persons; each image is read and cut when its turn comes.

    Args:
        images: as ``recognise`` has them.
        options: size and quality.
        timeout: seconds, for images of the web.
        failures: takes a message for each image that can't be read again.
    """
    for image in images:
        try:
            yield from image.subjects(options, timeout)
        except (CocoerError, OSError) as error:
            failures.append(f"{image.source.name}: {error}")


def _cut(source: Source, result: dict[str, Any], data: bytes, options: ImageOptions) -> list[Subject]:
    cutter = functools.cache(lambda: Cutter(open_as_served(data), options))  # not where nobody is
    return [Subject(source.name, person, cutter().crops(person)) for person in result["persons"]]
