"""What a caller may want to know before asking: the model, its labels, and what is taken."""

from __future__ import annotations

import asyncio
import time

from pydantic import BaseModel, Field

from cocoer_client.aio import AsyncCocoerClient
from cocoer_client.drawing.explain import DEFAULT_THRESHOLDS
from cocoer_client.errors import ServerError
from cocoer_client.inputs import NOTHING
from cocoer_client.limits import ModelLimits
from cocoer_client.protocol import MAX_PERSONS
from cocoer_client.reading import warnings_of
from cocoer_client.results import ModelInfo, Probability
from cocoer_client.web.settings import Settings

USUAL = ModelLimits(
    max_bytes=32 << 20,
    max_pixels=50_000_000,
    max_persons=MAX_PERSONS,
    formats=("JPEG", "PNG", "WEBP", "BMP"),
    **DEFAULT_THRESHOLDS,
    min_score=0.5,
    on_damage="refuse",
)
"""Of a server whose configuration was not changed."""
KEPT = 5.0
"""Seconds for which an answer of Triton's is given again."""


class Thresholds(BaseModel):
    """What counts where a request says nothing else."""

    final_threshold: Probability = Field(description="Final labels are above this probability.")
    level_threshold: Probability = Field(description="Labels of a level and of V-I are above this probability.")
    min_score: Probability = Field(description="Detections are above this score.")


class Limits(BaseModel):
    """What is taken."""

    max_bytes: int = Field(description="Of an image's file.", ge=1)
    max_pixels: int = Field(description="Of an image.", ge=1)
    max_persons: int = Field(description="Of an image.", ge=1)
    formats: list[str] = Field(description="Media types of images.")


class About(BaseModel):
    """The model behind the gateway, its labels, and what this gateway takes."""

    model: ModelInfo
    labels: list[str] = Field(description="The 26 EMOTIC categories, in the order of every list of probabilities.")
    thresholds: Thresholds
    limits: Limits
    warnings: list[str] = Field(description="What must not be overlooked, for instance that weights are synthetic.")


class Reader:
    """Asks Triton, and gives an answer again for some seconds.

    Args:
        client: the connection.
        settings: the gateway's.
    """

    def __init__(self, client: AsyncCocoerClient, settings: Settings) -> None:
        self.client, self.settings = client, settings
        self._one_asks = asyncio.Lock()
        self._kept: tuple[float, About] | None = None

    async def about(self) -> About:
        """What there is to know; raises ``CocoerError`` as the client does."""
        async with self._one_asks:
            if self._kept is None or time.monotonic() - self._kept[0] > KEPT:
                self._kept = (time.monotonic(), await self._ask())
            return self._kept[1]

    async def _ask(self) -> About:
        result, limits = await asyncio.gather(self.client.infer(NOTHING, []), self._limits())
        return About(
            model=result.model,
            labels=list(result.labels),
            thresholds=Thresholds(**{name: getattr(limits, name) for name in Thresholds.model_fields}),
            limits=Limits(
                max_bytes=min(self.settings.max_bytes, limits.max_bytes),
                max_pixels=limits.max_pixels,
                max_persons=limits.max_persons,
                formats=[f"image/{name.lower()}" for name in limits.formats],
            ),
            warnings=warnings_of({"model": result.model.model_dump(mode="json"), "image": {}}),
        )

    async def _limits(self) -> ModelLimits:
        try:
            return await self.client.model_limits()
        except ServerError:
            # Triton may be set not to tell its models' configuration to everybody.
            return USUAL
