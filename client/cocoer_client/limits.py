"""What the served model takes, and what it does where a request says nothing: of its configuration in Triton."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cocoer_client.errors import ServerError
from cocoer_client.protocol import MODEL, THRESHOLDS, OnDamage


@dataclass(frozen=True)
class ModelLimits:
    """Limits of one image, and defaults of request parameters, as the server's operator has set them."""

    max_bytes: int
    """Of the encoded image."""
    max_pixels: int
    """Of the decoded image."""
    max_persons: int
    """Boxes of one image."""
    formats: tuple[str, ...]
    """Names of formats that are decoded, for instance JPEG."""
    final_threshold: float
    level_threshold: float
    min_score: float
    on_damage: OnDamage

    @classmethod
    def from_config(cls, config: Any) -> ModelLimits:
        """Limits from Triton's ``ModelConfig`` of the model.

        Raises:
            ServerError: it lacks one of them, or has one that makes no sense.
        """
        texts = {name: parameter.string_value for name, parameter in config.parameters.items()}
        try:
            counts = {name: int(texts[name]) for name in ("max_bytes", "max_pixels", "max_persons")}
            thresholds = {name: float(texts[name]) for name in THRESHOLDS}
            formats = tuple(name.strip().upper() for name in texts["formats"].split(","))
            return cls(**counts, **thresholds, formats=formats, on_damage=texts["on_damage"])  # type: ignore[arg-type]
        except KeyError as error:
            raise ServerError(f"the server's configuration of {MODEL!r} lacks parameter {error}") from error
        except ValueError as error:
            raise ServerError(f"the server's configuration of {MODEL!r} makes no sense: {error}") from error
