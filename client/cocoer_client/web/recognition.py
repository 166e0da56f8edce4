"""From an upload to RESULT, and from that to an annotated image or a page."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cocoer_client.aio import AsyncCocoerClient
from cocoer_client.drawing.explain import page
from cocoer_client.drawing.images import draw, open_upright
from cocoer_client.errors import CocoerError
from cocoer_client.reading import warnings_of
from cocoer_client.web.asked import Asked, AskedToDraw
from cocoer_client.web.problems import of_error

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}


@dataclass
class Recognition:
    """Asks Triton, and draws in threads.

    Args:
        client: the connection.
        threads: in which images are drawn.
    """

    client: AsyncCocoerClient
    threads: ThreadPoolExecutor

    async def result(self, image: bytes, asked: Asked) -> dict[str, Any]:
        """RESULT."""
        try:
            return await self.client.infer_raw(image, asked.boxes, **asked.options())
        except CocoerError as error:
            raise of_error(error) from error

    async def annotated(self, image: bytes, asked: AskedToDraw, kind: str) -> bytes:
        """The annotated image, in a format of ``FORMATS``."""
        result = await self.result(image, asked)
        return await self._drawn(_annotate, image, result, asked, kind)

    async def explained(self, image: bytes, asked: Asked) -> str:
        """The page that ``cocoer-infer --explain`` writes."""
        result = await self.result(image, asked)
        return str(await self._drawn(_explain, image, result, asked))

    async def _drawn(self, function: Any, *arguments: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)
        except CocoerError as error:
            raise of_error(error) from error


def _annotate(image: bytes, result: dict[str, Any], asked: AskedToDraw, kind: str) -> bytes:
    drawn = draw(image, result, asked.style, asked.persons is not None, boxes=asked.drawn_boxes)
    stream = io.BytesIO()
    drawn.save(stream, FORMATS[kind], quality=asked.quality)
    return stream.getvalue()


def _explain(image: bytes, result: dict[str, Any], asked: Asked) -> str:
    record = {"file": "image", "options": asked.options(), **result}
    return page(open_upright(image), record, warnings_of(result, asked.persons is not None))
