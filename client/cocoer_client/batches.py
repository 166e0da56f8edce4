"""A batch of images as requests: which go together, and what became of each image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tritonclient.grpc as grpcclient
from pydantic import ValidationError

from cocoer_client.errors import CocoerError, InvalidInput, InvalidRequest, ServerBusy, ServerError
from cocoer_client.inputs import BoxPair, ImageLike, Rows, encode_image, persons_rows, request_inputs
from cocoer_client.protocol import MAX_BATCH, MAX_REQUEST_BYTES
from cocoer_client.results import Failure, Result


@dataclass(frozen=True)
class Prepared:
    """An image of a batch, ready to send."""

    index: int
    image: bytes
    persons: Rows | None

    @property
    def rows(self) -> int | None:
        """Number of boxes; None: to be detected. Images of one request have the same."""
        return None if self.persons is None else len(self.persons)


@dataclass(frozen=True)
class Request:
    """Images that go together."""

    images: list[Prepared]

    def has_room_for(self, other: Prepared) -> bool:
        size = sum(len(one.image) for one in self.images)
        return len(self.images) < MAX_BATCH and (not self.images or size + len(other.image) <= MAX_REQUEST_BYTES)

    def inputs(self) -> list[grpcclient.InferInput]:
        """Its tensors."""
        rows = [one.persons for one in self.images if one.persons is not None]
        return request_inputs([one.image for one in self.images], rows or None)


class Batch:
    """Any number of images in as few requests as hold them.

    Args:
        images: as ``CocoerClient.infer`` takes them.
        persons: for each image its boxes, or None.

    Raises:
        InvalidInput: ``persons`` has another length than ``images``.
    """

    def __init__(self, images: Sequence[ImageLike], persons: Sequence[Sequence[BoxPair] | None] | None) -> None:
        if persons is not None and len(persons) != len(images):
            raise InvalidInput(
                f"persons has {len(persons)} entries for {len(images)} images; give one, or None, for each"
            )
        self._outcomes: dict[int, Result | CocoerError] = {}
        groups: dict[int | None, list[Request]] = {}
        for index, image in enumerate(images):
            boxes = None if persons is None else persons[index]
            try:
                one = Prepared(index, encode_image(image), None if boxes is None else persons_rows(boxes))
            except InvalidInput as error:
                self._outcomes[index] = error
                continue
            requests = groups.setdefault(one.rows, [Request([])])
            if not requests[-1].has_room_for(one):
                requests.append(Request([]))
            requests[-1].images.append(one)
        self.requests = [request for requests in groups.values() for request in requests]

    @contextlib.contextmanager
    def asking(self, request: Request) -> Iterator[None]:
        """Around one request: its refusal is the only image's, or that of an option, which is everyone's."""
        try:
            yield
        except InvalidRequest as error:
            self._outcomes |= {one.index: error for one in request.images}

    def answered(self, request: Request, raws: Sequence[dict[str, Any]]) -> None:
        """Take the answers for a request's images."""
        self._outcomes |= {one.index: as_outcome(raw) for one, raw in zip(request.images, raws, strict=True)}

    def outcomes(self) -> list[Result | CocoerError]:
        """For each image, in order, its result or its error."""
        return [self._outcomes[index] for index in sorted(self._outcomes)]


def as_result(raw: Mapping[str, Any]) -> Result:
    """RESULT, typed; raises ``ServerError`` where the answer is none."""
    try:
        return Result.from_raw(raw)
    except ValidationError as error:
        raise ServerError(not_a_result(error)) from error


def as_outcome(raw: dict[str, Any]) -> Result | CocoerError:
    """An image's RESULT, or the error that stands in its place."""
    try:
        return as_result(require_result(raw))
    except CocoerError as error:
        return error


def require_result(raw: dict[str, Any]) -> dict[str, Any]:
    """It; raises the error that stands in a RESULT's place, if one does."""
    if "error" not in raw:
        return raw
    try:
        failure = Failure.model_validate(raw, extra="ignore").error
    except ValidationError as error:
        raise ServerError(not_a_result(error)) from error
    if failure.code == "INVALID_ARG":
        raise InvalidRequest(failure.message, reason=failure.reason)
    raise (ServerBusy if failure.code == "UNAVAILABLE" else ServerError)(failure.message)


def not_a_result(error: ValidationError) -> str:
    """Says where an answer is not what it should be, and what to do.

    >>> try: Failure.model_validate({"error": {"code": "INTERNAL"}})
    ... except ValidationError as error: not_a_result(error).partition(":")[0]
    'the server answers what this client does not know (error.message'
    """
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return (
        f"the server answers what this client does not know ({place}: {first['msg']}); "
        "use the client of the server's version, or infer_raw"
    )
