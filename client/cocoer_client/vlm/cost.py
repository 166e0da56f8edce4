"""About what a run will cost: requests, and tokens as far as the rules are public."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cocoer_client.errors import InvalidInput
from cocoer_client.terminal import counted
from cocoer_client.vlm.crops import SentImage
from cocoer_client.vlm.prompt import Message

CHARACTERS_PER_TOKEN = 4
"""Of English, on average."""
TOKENS_PER_MESSAGE = 4
"""Whose role and ends are tokens, too."""
Prices = tuple[float, float]
"""Of a million tokens that are sent, and of a million that come back; in any currency."""


@dataclass(frozen=True)
class Estimate:
    """Args:
    requests: that will be sent; what is kept from before is not.
    kept: answers from before.
    prompt_tokens: about; of text and images.
    completion_tokens: at most.
    repeated: questions that are the same as one of these, as where two modes send the same images.
    """

    requests: int = 0
    kept: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    repeated: int = 0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.requests + other.requests,
            self.kept + other.kept,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.repeated + other.repeated,
        )

    def money(self, prices: Prices) -> float:
        """About, and for answers as long as they may be; see ``money``."""
        return money(self.prompt_tokens, self.completion_tokens, prices)

    def require_at_most(self, requests: int | None) -> None:
        """Raise ``InvalidInput`` where there are more requests; None: any number."""
        if requests is not None and self.requests > requests:
            raise InvalidInput(f"{self.requests} requests are more than --max-requests {requests}")

    def told(self, prices: Prices | None = None) -> str:
        """For people.

        >>> Estimate(3, 0, 4000, 1200, repeated=1).told((2.5, 10.0))
        '3 requests (1 question more, of the same); about 4,000 tokens are sent, at most 1,200 come back: 0.02 at most'
        """
        asked = counted(self.requests, "request")
        repeated = f" ({counted(self.repeated, 'question')} more, of the same)" if self.repeated else ""
        kept = f", {counted(self.kept, 'answer')} from before" if self.kept else ""
        paid = f": {self.money(prices):.2f} at most" if prices else ""
        sent, back = f"{self.prompt_tokens:,}", f"{self.completion_tokens:,}"
        return f"{asked}{repeated}{kept}; about {sent} tokens are sent, at most {back} come back{paid}"


def money(prompt_tokens: int, completion_tokens: int, prices: Prices) -> float:
    """What tokens cost, without discounts for what a provider has in its own cache.

    >>> money(2_000_000, 100_000, (2.5, 10.0))
    6.0
    """
    return (prompt_tokens * prices[0] + completion_tokens * prices[1]) / 1e6


@dataclass(frozen=True)
class Tiles:
    """An image is reduced to fit into a square of 2048 pixels, and to a shorter side of 768, and cut into tiles of 512.

    What is smaller is not enlarged. With ``detail`` low there are no tiles.

    Args:
        base: tokens of any image.
        tile: of each tile.
    """

    base: int
    tile: int

    def tokens(self, size: tuple[int, int], detail: str) -> int:
        """Of an image of this width and height; ``auto`` counts as ``high``, which it may become.

        >>> Tiles(85, 170).tokens((2048, 4096), "high"), Tiles(85, 170).tokens((4096, 8192), "low")
        (1105, 85)
        """
        if detail == "low":
            return self.base
        scale = min(1.0, 2048 / max(size))
        scale = min(scale, 768 / min(size))
        return self.base + self.tile * math.ceil(size[0] * scale / 512) * math.ceil(size[1] * scale / 512)


@dataclass(frozen=True)
class Patches:
    """An image is cut into square patches; of which there would be too many, it is reduced before. ``detail`` does not
    matter.

    Args:
        factor: tokens of a patch.
        most: patches.
        side: of a patch, pixels.
    """

    factor: float
    most: int = 1536
    side: int = 32

    def tokens(self, size: tuple[int, int], detail: str) -> int:
        """Of an image of this width and height.

        >>> Patches(1).tokens((1024, 1024), "high"), Patches(1).tokens((1800, 2400), "auto")
        (1024, 1452)
        """
        across, down = (length / self.side for length in size)
        if math.ceil(across) * math.ceil(down) > self.most:
            scale = math.sqrt(self.most / (across * down))
            # Reduced once more, so that whole patches cover one of the sides. Of a very long image one patch is left.
            scale *= min(max(1, math.floor(length * scale)) / (length * scale) for length in (across, down))
            across, down = max(1.0, across * scale), max(1.0, down * scale)
        patches = math.ceil(round(across, 6)) * math.ceil(round(down, 6))
        return math.ceil(min(patches, self.most) * self.factor)


Rule = Tiles | Patches
RULES: Mapping[str, Rule] = {
    r"gpt-4o-mini": Tiles(2833, 5667),
    r"gpt-4\.1-mini|gpt-5-mini": Patches(1.62),
    r"gpt-4\.1-nano|gpt-5-nano": Patches(2.46),
    r"o4-mini": Patches(1.72),
    r"(?:chat)?gpt-4": Tiles(85, 170),
    r"gpt-5\.[2-9]|gpt-[6-9]": Patches(1.2, most=2500),
    r"gpt-5": Tiles(70, 140),
    r"o[13]\b": Tiles(75, 150),
}
"""Beginning of a model's name -> OpenAI's rule, as its guide to images has it; of gpt-5.2 and later, which the guide
does not settle, as users have measured it. The first that fits counts."""
GENERIC = Patches(1.0, most=16384, side=28)
"""Of all other models: Qwen2-VL's and 2.5-VL's rule; Anthropic's (width x height / 750) comes to nearly the same.
Others differ, some have a fixed number for each image (Gemma 3: 256, LLaVA 1.5: 576): it is a guess, and no more."""


def rule_of(model: str) -> Rule:
    """How a model counts images, by its name; a maker's name before it (``openai/``, ``ft:``) does not matter.

    >>> rule_of("openai/gpt-4o-2024-08-06"), rule_of("gpt-4o-mini"), rule_of("llava") is GENERIC
    (Tiles(base=85, tile=170), Tiles(base=2833, tile=5667), True)
    """
    for beginning, rule in RULES.items():
        if re.search(rf"(?:^|[/:])(?:{beginning})", model.lower()):
            return rule
    return GENERIC


def prompt_tokens(
    messages: Sequence[Message],
    images: Sequence[SentImage],
    detail: str,
    model: str = "",
    form: Mapping[str, Any] | None = None,
) -> int:
    """About how many tokens are sent.

    Args:
        messages: with the text.
        images: that are in them.
        detail: as asked for.
        model: by whose rule images are counted.
        form: ``response_format``, which models read as well.
    """
    characters = sum(map(_characters, messages)) + (len(json.dumps(form)) if form else 0)
    text = math.ceil(characters / CHARACTERS_PER_TOKEN) + TOKENS_PER_MESSAGE * len(messages)
    rule = rule_of(model)
    return text + sum(rule.tokens(image.size, detail) for image in images)


def _characters(message: Message) -> int:
    content: Any = message["content"]
    if isinstance(content, str):
        return len(content)
    return sum(len(part.get("text", "")) for part in content)
