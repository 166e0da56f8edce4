"""A synchronous client of the served ``cocoer`` model, over gRPC.

with CocoerClient("localhost:8001") as client:
    result = client.infer("img.png")
    print(result.persons[0].pred)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from cocoer_client.connection import (
    Attempts,
    BaseClient,
    as_outcome,
    batch_inputs,
    given_parameters,
    prepare_batch,
    results_of,
)
from cocoer_client.errors import MODEL, CocoerError, InvalidRequest
from cocoer_client.inputs import BoxPair, ImageLike, encode_image, persons_rows, request_inputs
from cocoer_client.ordered import in_order
from cocoer_client.results import Result


class CocoerClient(BaseClient):
    """One connection to a server; use it as a context manager, or ``close`` it. Threads may share it.

    Args:
        url, timeout, retries, tls, headers: see ``BaseClient``.
    """

    transport = grpcclient.InferenceServerClient

    def __enter__(self) -> CocoerClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def check_ready(self) -> None:
        """Raise ``ServerUnavailable`` unless the server is there and its model is ready."""
        try:
            ready = self._client.is_model_ready(MODEL, headers=self.headers, client_timeout=self.timeout)
        except InferenceServerException as error:
            raise self.translate(error) from error
        if not ready:
            raise self.not_ready()

    def infer(
        self,
        image: ImageLike,
        persons: Sequence[BoxPair] | None = None,
        *,
        final_threshold: float | None = None,
        level_threshold: float | None = None,
        min_score: float | None = None,
        timing: bool = False,
    ) -> Result:
        """Recognise the emotions of the persons in one image.

        Args:
            image: bytes of a file, its path, a NumPy array or a Pillow image; see ``ImageLike``.
            persons: their boxes, in pixels; None: the server detects them.
            final_threshold, level_threshold: probabilities above which a label is listed; None: the server's
                (0.26, 0.6).
            min_score: smallest detection score; None: the server's (0.5).
            timing: have the server add ``timing_ms``, the milliseconds of each stage.

        Raises:
            InvalidInput, ServerUnavailable (ServerBusy), RequestTimeout, InvalidRequest, ServerError: see
                ``cocoer_client.errors``.
        """
        options = {
            "final_threshold": final_threshold,
            "level_threshold": level_threshold,
            "min_score": min_score,
            "timing": timing,
        }
        return Result.from_raw(self.infer_raw(image, persons, **options))

    def infer_raw(self, image: ImageLike, persons: Sequence[BoxPair] | None = None, **options: Any) -> dict[str, Any]:
        """As ``infer``; RESULT as the server sent it (docs/result.md)."""
        rows = None if persons is None else [persons_rows(persons)]
        return self._ask(request_inputs([encode_image(image)], rows), options)[0]

    def infer_batch(
        self,
        images: Sequence[ImageLike],
        persons: Sequence[Sequence[BoxPair] | None] | None = None,
        **options: Any,
    ) -> list[Result | CocoerError]:
        """Several images in as few requests as hold them, one after the other; what fails, fails alone.

        Args:
            images: images, as in ``infer``.
            persons: for each image its boxes, or None.
            **options: as in ``infer``.

        Returns:
            for each image its result, or the error that it alone has.

        Raises:
            ServerUnavailable, RequestTimeout, ServerError: a whole request failed.
        """
        requests, failed = prepare_batch(images, persons)
        outcomes: dict[int, Result | CocoerError] = dict(failed)
        for request in requests:
            try:
                raws = self._ask(batch_inputs(request), options)
                outcomes |= {one.index: as_outcome(raw) for one, raw in zip(request, raws)}
            except InvalidRequest as error:
                # The only image's error, or that of an option, which is everyone's.
                outcomes |= {one.index: error for one in request}
        return [outcomes[index] for index in range(len(images))]

    def infer_many(
        self, images: Iterable[ImageLike], concurrency: int = 4, **options: Any
    ) -> Iterator[Result | CocoerError]:
        """Any number of images, several on their way at once; outcomes in the order of the images.

        Args:
            images: taken from as results are; need not fit into memory.
            concurrency: requests on their way. The server makes batches of them.
            **options: as in ``infer``.
        """

        def outcome(image: ImageLike) -> Result | CocoerError:
            try:
                return self.infer(image, **options)
            except CocoerError as error:
                return error

        return in_order(outcome, images, concurrency)

    def _ask(self, inputs: list[grpcclient.InferInput], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """RESULT of each image; asks again where that is safe, until the time is over."""
        parameters = given_parameters(options)
        attempts = Attempts(self.timeout, self.retries)
        while True:
            try:
                response = self._client.infer(MODEL, inputs, **self.call(attempts.left, parameters))
                return results_of(response)
            except InferenceServerException as error:
                pause = attempts.pause_after(self.translate(error))
            time.sleep(pause)
