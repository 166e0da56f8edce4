"""A synchronous client of the served ``cocoer`` model, over gRPC.

with CocoerClient("localhost:8001") as client:
    result = client.infer("img.png")
    print(result.persons[0].pred)
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from cocoer_client.batches import Batch, as_result, require_result
from cocoer_client.closing import Closing
from cocoer_client.connection import BaseClient, given_parameters, require_workers
from cocoer_client.errors import CocoerError
from cocoer_client.inputs import NOTHING, BoxPair, ImageLike, encode_image, image_inputs
from cocoer_client.limits import ModelLimits
from cocoer_client.ordered import in_order
from cocoer_client.protocol import Options
from cocoer_client.results import ModelInfo, Result

if TYPE_CHECKING:
    from typing_extensions import Unpack


class CocoerClient(Closing, BaseClient):
    """One connection to a server; use it as a context manager, or ``close`` it. Threads may share it.

    Args:
        url, timeout, retries, tls, headers: see ``BaseClient``.
    """

    transport = grpcclient.InferenceServerClient

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def check_ready(self) -> None:
        """Raise ``ServerUnavailable`` unless the server is there and its model is ready."""
        with self.translated():
            ready = self._client.is_model_ready(**self.about_model())
        self.require_ready(ready)

    def model_info(self, **options: Unpack[Options]) -> ModelInfo:
        """The build that answers: weights, precision, detectors. Asks about an image without anybody.

        ``infer(NOTHING, [])``, with ``inputs.NOTHING``, has the labels too.

        Args:
            **options: as in ``infer``; checks them before the first image.

        Raises:
            InvalidRequest: an option that the server refuses.
            ServerUnavailable, RequestTimeout, ServerError: as ``infer``.
        """
        return self.infer(NOTHING, [], **options).model

    def model_limits(self) -> ModelLimits:
        """What the served model takes of one image, and its default thresholds: read from its configuration, not tried.

        Raises:
            ServerUnavailable, RequestTimeout: as ``infer``, but asked once.
            ServerError: the server allows this call only with a key (headers), or its configuration lacks one of them.
        """
        with self.translated():
            response = self._client.get_model_config(**self.about_model())
        self.reached = True
        return ModelLimits.from_config(response.config)

    def infer(
        self,
        image: ImageLike,
        persons: Sequence[BoxPair] | None = None,
        *,
        request_id: str = "",
        **options: Unpack[Options],
    ) -> Result:
        """Recognise the emotions of the persons in one image.

        Args:
            image: bytes of a file, its path, a NumPy array or a Pillow image; see ``ImageLike``.
            persons: their boxes, in pixels; None: the server detects them.
            request_id: Triton's id of the request, which the server's log has beside a refusal or failure; the answer
                does not depend on it.
            **options: ``final_threshold`` and ``level_threshold``, probabilities above which a label is listed (the
                server's: 0.26, 0.6); ``min_score``, above which a detection counts (the server's: 0.5); ``timing``,
                to have the server add ``timing_ms``, the milliseconds of each stage; ``on_refusal="answer"``, so that
                ``InvalidRequest`` has its ``reason``; ``on_damage="accept"``, for what is left of damaged images;
                ``fast_decode``, to have large JPEGs decoded faster, and not to the same bytes.

        Raises:
            InvalidInput, ServerUnavailable (ServerBusy), RequestTimeout, InvalidRequest, ServerError: see
                ``cocoer_client.errors``.
            TypeError: an option that there is not.
        """
        return as_result(self.infer_raw(image, persons, request_id=request_id, **options))

    def infer_raw(
        self,
        image: ImageLike,
        persons: Sequence[BoxPair] | None = None,
        *,
        request_id: str = "",
        **options: Unpack[Options],
    ) -> dict[str, Any]:
        """As ``infer``; RESULT as the server sent it (docs/result.md)."""
        parameters = given_parameters(options)
        return require_result(self._ask(image_inputs(encode_image(image), persons), parameters, request_id)[0])

    def infer_batch(
        self,
        images: Sequence[ImageLike],
        persons: Sequence[Sequence[BoxPair] | None] | None = None,
        **options: Unpack[Options],
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
            TypeError: an option that there is not.
        """
        parameters = given_parameters(options)
        batch = Batch(images, persons)
        for request in batch.requests:
            with batch.asking(request):
                batch.answered(request, self._ask(request.inputs(), parameters))
        return batch.outcomes()

    def infer_many(
        self, images: Iterable[ImageLike], concurrency: int = 4, **options: Unpack[Options]
    ) -> Generator[Result | CocoerError, None, None]:
        """Any number of images, several on their way at once; outcomes in the order of the images.

        Each comes as soon as it and those before it are there: a camera's first before it has a second. ``close`` the
        iteration, or let it go, to ask about no more.

        Args:
            images: taken, in a thread of their own, as there is room; need not fit into memory, and may keep one
                waiting. What they raise is raised after the outcomes before.
            concurrency: requests on their way. The server makes batches of them.
            **options: as in ``infer``.

        Raises:
            TypeError: an option that there is not; at once.
            ValueError: no concurrency; at once.
        """
        given_parameters(options)

        def outcome(image: ImageLike) -> Result | CocoerError:
            try:
                return self.infer(image, **options)
            except CocoerError as error:
                return error

        return in_order(outcome, images, require_workers(concurrency))

    def _ask(
        self, inputs: list[grpcclient.InferInput], parameters: Mapping[str, Any], request_id: str = ""
    ) -> list[dict[str, Any]]:
        """RESULT of each image; asks again where that is safe, until the time is over."""
        call = self.call(inputs, parameters, request_id)
        while True:
            try:
                return call.results(self._client.infer(**call.arguments()))
            except InferenceServerException as error:
                pause = call.pause_after(error)
            time.sleep(pause)
