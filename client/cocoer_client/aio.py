"""The asynchronous client: ``CocoerClient`` for asyncio.

async with AsyncCocoerClient("localhost:8001") as client:
    result = await client.infer("img.png")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
from tritonclient.utils import InferenceServerException

from cocoer_client.batches import Batch, Request, as_result, require_result
from cocoer_client.connection import BaseClient, given_parameters, require_workers
from cocoer_client.errors import CocoerError
from cocoer_client.inputs import NOTHING, BoxPair, ImageLike, encode_image, image_inputs
from cocoer_client.limits import ModelLimits
from cocoer_client.ordered_async import AnyIterable, cancelled, in_order_async
from cocoer_client.protocol import Options
from cocoer_client.results import ModelInfo, Result

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


class AsyncCocoerClient(BaseClient):
    """One connection to a server, for one event loop; arguments and errors are ``CocoerClient``'s.

    A cancelled call is cancelled on the server too. Files are read, and arrays encoded, in a thread.
    """

    transport = grpcaio.InferenceServerClient

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def check_ready(self) -> None:
        """As ``CocoerClient.check_ready``."""
        with self.translated():
            ready = await self._client.is_model_ready(**self.about_model())
        self.require_ready(ready)

    async def model_info(self, **options: Unpack[Options]) -> ModelInfo:
        """As ``CocoerClient.model_info``."""
        return (await self.infer(NOTHING, [], **options)).model

    async def model_limits(self) -> ModelLimits:
        """As ``CocoerClient.model_limits``."""
        with self.translated():
            response = await self._client.get_model_config(**self.about_model())
        self.reached = True
        return ModelLimits.from_config(response.config)

    async def infer(
        self,
        image: ImageLike,
        persons: Sequence[BoxPair] | None = None,
        *,
        request_id: str = "",
        **options: Unpack[Options],
    ) -> Result:
        """As ``CocoerClient.infer``."""
        return as_result(await self.infer_raw(image, persons, request_id=request_id, **options))

    async def infer_raw(
        self,
        image: ImageLike,
        persons: Sequence[BoxPair] | None = None,
        *,
        request_id: str = "",
        **options: Unpack[Options],
    ) -> dict[str, Any]:
        """As ``CocoerClient.infer_raw``."""
        parameters = given_parameters(options)
        encoded = image if isinstance(image, bytes) else await asyncio.to_thread(encode_image, image)
        return require_result((await self._ask(image_inputs(encoded, persons), parameters, request_id))[0])

    async def infer_batch(
        self,
        images: Sequence[ImageLike],
        persons: Sequence[Sequence[BoxPair] | None] | None = None,
        **options: Unpack[Options],
    ) -> list[Result | CocoerError]:
        """As ``CocoerClient.infer_batch``; its requests go out together. If it raises, none of them goes on."""
        parameters = given_parameters(options)
        batch = await asyncio.to_thread(Batch, images, persons)

        async def ask(request: Request) -> None:
            with batch.asking(request):
                batch.answered(request, await self._ask(request.inputs(), parameters))

        tasks = [asyncio.create_task(ask(request)) for request in batch.requests]
        try:
            await asyncio.gather(*tasks)
        finally:
            await cancelled(tasks)
        return batch.outcomes()

    def infer_many(
        self, images: AnyIterable[ImageLike], concurrency: int = 4, **options: Unpack[Options]
    ) -> AsyncGenerator[Result | CocoerError, None]:
        """As ``CocoerClient.infer_many``; ``images`` may be asynchronous too (``async for``)."""
        given_parameters(options)

        async def outcome(image: ImageLike) -> Result | CocoerError:
            try:
                return await self.infer(image, **options)
            except CocoerError as error:
                return error

        return in_order_async(outcome, images, require_workers(concurrency))

    async def _ask(
        self, inputs: list[grpcclient.InferInput], parameters: Mapping[str, Any], request_id: str = ""
    ) -> list[dict[str, Any]]:
        """As ``CocoerClient._ask``."""
        call = self.call(inputs, parameters, request_id)
        while True:
            try:
                return call.results(await self._client.infer(**call.arguments()))
            except InferenceServerException as error:
                pause = call.pause_after(error)
            await asyncio.sleep(pause)
