"""The asynchronous client: ``CocoerClient`` for asyncio.

async with AsyncCocoerClient("localhost:8001") as client:
    result = await client.infer("img.png")
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
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
from cocoer_client.results import Result


class AsyncCocoerClient(BaseClient):
    """One connection to a server, for one event loop; arguments and errors are ``CocoerClient``'s.

    A cancelled call is cancelled on the server too. Files are read, and arrays encoded, in a thread.
    """

    transport = grpcaio.InferenceServerClient

    async def __aenter__(self) -> AsyncCocoerClient:
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
        try:
            ready = await self._client.is_model_ready(MODEL, headers=self.headers, client_timeout=self.timeout)
        except InferenceServerException as error:
            raise self.translate(error) from error
        if not ready:
            raise self.not_ready()

    async def infer(self, image: ImageLike, persons: Sequence[BoxPair] | None = None, **options: Any) -> Result:
        """As ``CocoerClient.infer``, with the same options."""
        return Result.from_raw(await self.infer_raw(image, persons, **options))

    async def infer_raw(
        self, image: ImageLike, persons: Sequence[BoxPair] | None = None, **options: Any
    ) -> dict[str, Any]:
        """As ``CocoerClient.infer_raw``."""
        rows = None if persons is None else [persons_rows(persons)]
        inputs = request_inputs([await asyncio.to_thread(encode_image, image)], rows)
        return (await self._ask(inputs, options))[0]

    async def infer_batch(
        self,
        images: Sequence[ImageLike],
        persons: Sequence[Sequence[BoxPair] | None] | None = None,
        **options: Any,
    ) -> list[Result | CocoerError]:
        """As ``CocoerClient.infer_batch``; its requests go out together."""
        requests, failed = await asyncio.to_thread(prepare_batch, images, persons)
        outcomes: dict[int, Result | CocoerError] = dict(failed)

        async def ask(request: list[Any]) -> None:
            try:
                raws = await self._ask(batch_inputs(request), options)
                outcomes.update({one.index: as_outcome(raw) for one, raw in zip(request, raws)})
            except InvalidRequest as error:
                outcomes.update({one.index: error for one in request})

        await asyncio.gather(*map(ask, requests))
        return [outcomes[index] for index in range(len(images))]

    async def infer_many(
        self, images: Iterable[ImageLike], concurrency: int = 4, **options: Any
    ) -> AsyncIterator[Result | CocoerError]:
        """As ``CocoerClient.infer_many``."""

        async def outcome(image: ImageLike) -> Result | CocoerError:
            try:
                return await self.infer(image, **options)
            except CocoerError as error:
                return error

        waiting: deque[asyncio.Task[Result | CocoerError]] = deque()
        try:
            for image in images:
                waiting.append(asyncio.create_task(outcome(image)))
                if len(waiting) >= concurrency:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()

    async def _ask(self, inputs: list[grpcclient.InferInput], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """As ``CocoerClient._ask``."""
        parameters = given_parameters(options)
        attempts = Attempts(self.timeout, self.retries)
        while True:
            try:
                response = await self._client.infer(MODEL, inputs, **self.call(attempts.left, parameters))
                return results_of(response)
            except InferenceServerException as error:
                pause = attempts.pause_after(self.translate(error))
            await asyncio.sleep(pause)
