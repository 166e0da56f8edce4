"""What the client knows of the served model: its names, its limits, its options. Imports nothing of the package."""

from __future__ import annotations

from typing import Literal, TypedDict, get_args

MODEL = "cocoer"
"""Triton's name of the model that is asked."""
MAX_BATCH = 8
"""Images of one request: ``max_batch_size`` of the model."""
MAX_REQUEST_BYTES = 256 << 20
"""Of one request's images together; a message of gRPC ends at 2 GiB."""

Level = Literal["head", "body", "context"]
LEVELS: tuple[Level, ...] = get_args(Level)
"""The three crops that the network looks at, in its own order."""
LEVEL_KEYS: dict[Level, Literal["head", "body", "ctx"]] = {"head": "head", "body": "body", "context": "ctx"}
"""Level -> its key among a person's labels and scores, which are named as in CocoER's release."""
MAX_PERSONS = 512
"""Of one image."""
LABEL_COUNT = 26
"""Categories of EMOTIC; RESULT says which."""
CROP_SIDE = 224
"""Pixels: each crop is resized to a square of this side."""
PSEUDO_THRESHOLD = 0.3
"""A label is in the pseudo-label above this V-I probability (CocoER, section 3; a constant of the network)."""


OnDamage = Literal["refuse", "accept"]
OnRefusal = Literal["fail", "answer"]


class Thresholds(TypedDict, total=False):
    """Request parameters that are options of the commands too; None, or left out: the server's own."""

    final_threshold: float | None
    """A label is in ``pred`` above this probability."""
    level_threshold: float | None
    """A label is in ``VI``, ``head``, ``body`` or ``ctx`` above this probability."""
    min_score: float | None
    """A detection counts above this score."""
    on_damage: OnDamage | None
    """Whether a damaged or cut-off image is refused, or decoded as far as it goes; RESULT says what is wrong."""
    fast_decode: bool | None
    """Whether JPEGs are decoded smaller where no crop would be enlarged: faster, to nearly the same probabilities. A
    server before this option refuses it."""


class Options(Thresholds, total=False):
    """All request parameters."""

    timing: bool
    """Have the server add ``timing_ms``."""
    on_refusal: OnRefusal | None
    """Whether the call fails where its only image is refused, or says why in RESULT, so that
    ``InvalidRequest.reason`` is known. A server before this option refuses it."""


THRESHOLDS = tuple(name for name in Thresholds.__annotations__ if name not in ("on_damage", "fast_decode"))
OPTIONS = tuple(Options.__annotations__)
