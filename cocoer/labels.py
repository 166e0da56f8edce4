"""The 26 EMOTIC categories and the names of CocoER's levels, in the order the network uses."""

from __future__ import annotations

EMOTIC_LABELS: tuple[str, ...] = (
    "affection",
    "anger",
    "annoyance",
    "anticipation",
    "aversion",
    "confidence",
    "disapproval",
    "disconnection",
    "disquietment",
    "doubt / confusion",
    "embarrassment",
    "engagement",
    "esteem",
    "excitement",
    "fatigue",
    "fear",
    "happiness",
    "pain",
    "peace",
    "pleasure",
    "sadness",
    "sensitivity",
    "suffering",
    "surprise",
    "sympathy",
    "yearning",
)

# The order of this tuple decides ties in the competition: head before body before context.
LEVELS: tuple[str, ...] = ("head", "body", "context")
