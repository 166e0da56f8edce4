"""From an upload to RESULT, and from that to an annotated image or a page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cocoer_client.aio import AsyncCocoerClient
from cocoer_client.drawing.explain import page
from cocoer_client.drawing.formats import fits, to_bytes
from cocoer_client.drawing.images import draw, open_as_served
from cocoer_client.errors import CocoerError, InvalidInput
from cocoer_client.reading import warnings_of
from cocoer_client.web.asked import Asked, AskedToDraw
from cocoer_client.web.problems import Problem, of_error
from cocoer_client.web.timing import Timing

FORMATS = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
"""Media types of annotated images -> suffixes of such files."""
Made = TypeVar("Made")


def format_of(image: bytes) -> str:
    """The media type, of ``FORMATS``, in which an image is drawn if its caller has no wish: its own, else PNG."""
    if image.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/webp" if image[:4] == b"RIFF" and image[8:12] == b"WEBP" else "image/png"


@dataclass(frozen=True)
class Call:
    """A call of an endpoint, beside what it asks for.

    Args:
        request_id: its name in the logs.
        timing: of its parts.
    """

    request_id: str = ""
    timing: Timing = field(default_factory=Timing)


@dataclass
class Recognition:
    """Asks Triton, and draws in threads.

    Args:
        client: the connection.
        threads: in which images are drawn. Each holds an image as pixels, of up to 150 MB, and its copies: there are
            few of them, and who comes next waits with the bytes of a file.
    """

    client: AsyncCocoerClient
    threads: ThreadPoolExecutor

    async def result(self, image: bytes, asked: Asked, call: Call) -> dict[str, Any]:
        """RESULT. Both logs have the request under the same id; a refusal comes with its reason."""
        try:
            with call.timing.part("triton"):
                return await self.client.infer_raw(
                    image, asked.boxes, request_id=call.request_id, on_refusal="answer", **asked.options()
                )
        except CocoerError as error:
            raise of_error(error) from error

    async def annotated(self, image: bytes, asked: AskedToDraw, kinds: Sequence[str], call: Call) -> tuple[bytes, str]:
        """The annotated image and its media type: the first of ``kinds`` that has images as large as that."""
        result = await self.result(image, asked, call)
        with call.timing.part("draw"):
            return await self._drawn(_annotate, image, result, asked, kinds)

    async def explained(self, image: bytes, name: str, asked: Asked, call: Call) -> str:
        """The page that ``cocoer-infer --explain`` writes; ``name`` is the file's on it."""
        result = await self.result(image, asked, call)
        with call.timing.part("draw"):
            return await self._drawn(_explain, image, name, result, asked)

    async def _drawn(self, function: Callable[..., Made], *arguments: Any) -> Made:
        try:
            return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)
        except InvalidInput as error:
            raise Problem("damaged", f"{error}; save it anew, and send that") from error


def _annotate(image: bytes, result: dict[str, Any], asked: AskedToDraw, kinds: Sequence[str]) -> tuple[bytes, str]:
    drawn = draw(image, result, asked.style, asked.persons is not None, boxes=asked.drawn_boxes)
    for kind in kinds:
        if fits(drawn, FORMATS[kind]):
            return to_bytes(drawn, FORMATS[kind], asked.quality), kind
    raise Problem(
        "accept", f"the annotated image has {drawn.width} x {drawn.height} pixels, too many a side; accept image/png"
    )


def _explain(image: bytes, name: str, result: dict[str, Any], asked: Asked) -> str:
    record = {"file": name, "options": asked.options(), **result}
    return page(open_as_served(image), record, warnings_of(result, asked.persons is not None))
