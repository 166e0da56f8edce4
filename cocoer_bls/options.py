"""Request parameters and limits: defaults in the model's configuration, overrides in the request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cocoer_bls.decoding import DecodeLimits
from cocoer_bls.errors import InputError
from cocoer_bls.inputs import MAX_BATCH_PERSONS, MIN_SCORE

THRESHOLDS = ("final_threshold", "level_threshold", "min_score")
ON_DAMAGE = ("refuse", "accept")
ON_REFUSAL = ("fail", "answer")
CHOICES = {"on_damage": ON_DAMAGE, "on_refusal": ON_REFUSAL}
SWITCHES = ("timing", "fast_decode")
NAMES = (*THRESHOLDS, *SWITCHES, *CHOICES)
LIMIT_NAMES = ("max_bytes", "max_pixels", "max_batch_pixels", "max_persons", "max_batch_persons", "formats")
# What Triton and its gateways add to a request's parameters on their own.
FOREIGN_PREFIXES = ("triton_", "sequence_", "header_")


@dataclass(frozen=True)
class Options:
    """Thresholds on probabilities, all in [0, 1], and what else a request may ask for."""

    final_threshold: float
    """A label is in ``pred`` above this probability."""
    level_threshold: float
    """A label is in ``VI``, ``head``, ``body``, ``ctx`` above this probability."""
    min_score: float
    """Detections below this score are dropped (SCRFD only)."""
    timing: bool = False
    """RESULT has ``timing_ms``: how long each stage of this image took."""
    on_damage: str = "refuse"
    """Of ``ON_DAMAGE``: damaged images are refused, or decoded as far as they go and marked in RESULT."""
    on_refusal: str = "fail"
    """Of ``ON_REFUSAL``: a request whose only image is refused fails, or is answered with the refusal as RESULT."""
    fast_decode: bool = False
    """JPEGs are decoded smaller than they are where no crop would be enlarged: faster, and not to the same bytes."""

    @classmethod
    def from_config(cls, parameters: Mapping[str, Mapping[str, str]]) -> Options:
        """Defaults from the configuration's ``parameters`` (as JSON)."""
        final, level, score = (_probability(name, float(parameters[name]["string_value"])) for name in THRESHOLDS)
        on_damage = _choice("on_damage", parameters["on_damage"]["string_value"])
        fast_decode = parameters["fast_decode"]["string_value"]
        if fast_decode not in ("true", "false"):
            raise ValueError(f"parameter fast_decode must be true or false, got {fast_decode!r}")
        return cls(final, level, score, on_damage=on_damage, fast_decode=fast_decode == "true")

    def to_config(self) -> dict[str, str]:
        """The configuration's ``parameters`` that ``from_config`` reads."""
        thresholds = {name: f"{getattr(self, name):g}" for name in THRESHOLDS}
        return {**thresholds, "on_damage": self.on_damage, "fast_decode": str(self.fast_decode).lower()}

    def override(self, parameters: str) -> Options:
        """Apply a request's parameters (a JSON object as text).

        Raises:
            InputError: an unknown name, a threshold that is not a number in [0, 1], one of ``SWITCHES`` that is not a
                boolean, one of ``CHOICES`` that is not among its own.
        """
        return self.apply(json.loads(parameters) if parameters else {})

    def apply(self, given: Mapping[str, Any]) -> Options:
        """Apply a request's parameters; raises as ``override``."""
        own = {name: value for name, value in given.items() if not name.startswith(FOREIGN_PREFIXES)}
        unknown = sorted(set(own) - set(NAMES))
        if unknown:
            raise InputError("parameter", f"unknown request parameter {_names(unknown)}; there are {', '.join(NAMES)}")
        checks = {**dict.fromkeys(SWITCHES, _boolean), **dict.fromkeys(CHOICES, _choice)}
        # In an order of our own, for gRPC's maps have none: of several faults the same one is told each time.
        given_here = [name for name in (*CHOICES, *SWITCHES, *THRESHOLDS) if name in own]
        checked: dict[str, Any] = {name: checks.get(name, _probability)(name, own[name]) for name in given_here}
        return replace(self, **checked)


@dataclass(frozen=True)
class Limits:
    """What a request may ask for."""

    decode: DecodeLimits
    max_batch_pixels: int
    """Of the images that an instance has decoded at once, at least ``max_pixels``. Bounds its memory."""
    max_persons: int
    """Of one image."""
    max_batch_persons: int
    """Of one call of ``recognition``; larger crowds take several. Bounds its memory; at most ``MAX_BATCH_PERSONS``."""

    @classmethod
    def from_config(cls, parameters: Mapping[str, Mapping[str, str]]) -> Limits:
        """Limits from the configuration's ``parameters`` (as JSON).

        Raises:
            ValueError: one of them is missing or makes no sense; names it.
        """
        texts = {name: parameters.get(name, {}).get("string_value", "") for name in LIMIT_NAMES}
        for name in LIMIT_NAMES[:-1]:
            if not texts[name].isdecimal() or int(texts[name]) < 1:
                raise ValueError(f"parameter {name} must be a whole number above 0, got {texts[name]!r}")
        max_bytes, max_pixels, max_batch_pixels, max_persons, max_batch_persons = (
            int(texts[name]) for name in LIMIT_NAMES[:-1]
        )
        if max_batch_pixels < max_pixels:
            raise ValueError(
                f"parameter max_batch_pixels must be at least max_pixels, {max_pixels}, got {max_batch_pixels}"
            )
        if max_batch_persons > MAX_BATCH_PERSONS:
            raise ValueError(f"parameter max_batch_persons may be {MAX_BATCH_PERSONS} at most, got {max_batch_persons}")
        formats = tuple(name.strip().upper() for name in texts["formats"].split(","))
        return cls(DecodeLimits(max_bytes, max_pixels, formats), max_batch_pixels, max_persons, max_batch_persons)

    def to_config(self) -> dict[str, str]:
        """The configuration's ``parameters`` that ``from_config`` reads."""
        decode = self.decode
        counts = (
            decode.max_bytes,
            decode.max_pixels,
            self.max_batch_pixels,
            self.max_persons,
            self.max_batch_persons,
        )
        values = (*counts, ",".join(decode.formats))
        return dict(zip(LIMIT_NAMES, map(str, values)))


DEFAULT_OPTIONS = Options(final_threshold=0.26, level_threshold=0.6, min_score=MIN_SCORE)
"""The release's; the export writes them into the configuration."""
DEFAULT_LIMITS = Limits(
    DecodeLimits(max_bytes=32 << 20, max_pixels=50_000_000),
    max_batch_pixels=50_000_000,
    max_persons=512,
    max_batch_persons=32,
)
"""What one image may ask of ``cocoer``, where the configuration was not changed."""


def wants_answer(parameters: str) -> bool:
    """Whether a request wants its refusal as RESULT, whatever else is wrong with its parameters (JSON as text).

    >>> wants_answer('{"on_refusal": "answer", "min_score": 7}'), wants_answer('{"on_refusal": "shout"}')
    (True, False)
    """
    return bool(parameters) and json.loads(parameters).get("on_refusal") == "answer"


def _names(unknown: list[str]) -> str:
    """The first few of them: a message does not grow with the request."""
    return ", ".join(_shorten(name) for name in unknown[:3]) + (", ..." if len(unknown) > 3 else "")


def _shown(value: Any) -> str:
    return _shorten(repr(value))


def _shorten(text: str, maximum: int = 60) -> str:
    return text if len(text) <= maximum else text[: maximum - 3] + "..."


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError("parameter", f"request parameter {name} must be true or false, got {_shown(value)}")
    return value


def _choice(name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in CHOICES[name]:
        raise InputError("parameter", f"parameter {name} must be {' or '.join(CHOICES[name])}, got {_shown(value)}")
    return value


def _probability(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError("parameter", f"request parameter {name} must be a number from 0 to 1, got {_shown(value)}")
    return float(value)
