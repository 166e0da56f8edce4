"""The persons of the user's images: found by the server, cut out for the model."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from cocoer_client.client import CocoerClient
from cocoer_client.drawing.images import open_as_served
from cocoer_client.errors import CocoerError, is_gone
from cocoer_client.ordered import in_order
from cocoer_client.protocol import Thresholds
from cocoer_client.sources import Source
from cocoer_client.vlm.asking import Subject
from cocoer_client.vlm.crops import ImageOptions, cut


@dataclass(frozen=True)
class Recognised:
    """One image.

    Args:
        source: what the user named.
        result: RESULT; None: there is none.
        data: the file, of what can't be read twice.
        error: why there is no result.
    """

    source: Source
    result: dict[str, Any] | None = None
    data: bytes | None = None
    error: str = ""


def recognise(
    client: CocoerClient, sources: Sequence[Source], thresholds: Thresholds, concurrency: int, timeout: float
) -> Generator[Recognised, None, None]:
    """RESULT of each image, in their order; what fails, fails alone.

    Raises:
        ServerUnavailable: the server is gone.
    """

    def one(source: Source) -> Recognised:
        try:
            data = source.read(timeout)
            result = client.infer_raw(data, **thresholds)
        except (CocoerError, OSError) as error:
            if is_gone(error):
                raise
            return Recognised(source, error=str(error))
        return Recognised(source, result, None if source.is_file else data)

    return in_order(one, sources, concurrency)


def subjects_of(image: Recognised, options: ImageOptions, timeout: float) -> list[Subject]:
    """The persons of an image, cut out.

    Raises:
        InvalidInput, SourceUnavailable: the image can't be read again, or not by Pillow.
    """
    if not image.result or not image.result["persons"]:
        return []
    picture = open_as_served(image.source.read(timeout) if image.data is None else image.data)
    return [Subject(image.source.name, person, cut(picture, person, options)) for person in image.result["persons"]]
