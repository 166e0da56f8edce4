"""About what a run will cost: requests, and tokens as OpenAI counts those of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cocoer_client.vlm.crops import SentImage
from cocoer_client.vlm.prompt import Message

CHARACTERS_PER_TOKEN = 4
"""Of English, on average."""


@dataclass(frozen=True)
class Estimate:
    """Args:
    requests: that will be sent; what is kept from before is not.
    kept: answers from before.
    prompt_tokens: about; of text and images.
    completion_tokens: at most.
    """

    requests: int = 0
    kept: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.requests + other.requests,
            self.kept + other.kept,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


def image_tokens(size: tuple[int, int], detail: str) -> int:
    """Of one image, by OpenAI's rule for GPT-4o: 85, and 170 for each tile of 512 pixels.

    >>> image_tokens((1024, 1024), "high"), image_tokens((4096, 8192), "low")
    (765, 85)
    """
    if detail == "low":
        return 85
    scale = min(1.0, 2048 / max(size))
    width, height = size[0] * scale, size[1] * scale
    scale = min(1.0, 768 / min(width, height))
    return 85 + 170 * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


def prompt_tokens(messages: Sequence[Message], images: Sequence[SentImage], detail: str) -> int:
    """About how many tokens are sent."""
    return sum(map(_characters, messages)) // CHARACTERS_PER_TOKEN + sum(
        image_tokens(image.size, detail) for image in images
    )


def _characters(message: Message) -> int:
    content: Any = message["content"]
    if isinstance(content, str):
        return len(content)
    return sum(len(part.get("text", "")) for part in content)
