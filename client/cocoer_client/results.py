"""RESULT as typed, immutable objects; ``to_dict`` gives the dictionary of CocoER's release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple


class Box(NamedTuple):
    """x1, y1, x2, y2 in pixels of the upright image; x2 and y2 are one past the last pixel."""

    x1: int
    y1: int
    x2: int
    y2: int


@dataclass(frozen=True)
class Coordination:
    """How the method weighs the levels (CocoER, section 3); does not reach any prediction."""

    lambda_w1: Mapping[str, float]
    """Level -> weight in the QP over all levels' gradients (weights of the last layer)."""
    lambda_b1: Mapping[str, float]
    """The same, biases."""
    lambda_w2: Mapping[str, float]
    """The same as ``lambda_w1``, without the level excluded first."""
    lambda_b2: Mapping[str, float]
    grad_distance: float


@dataclass(frozen=True)
class Person:
    """One person of an image."""

    id: int
    """From 1; of given boxes, the row + 1."""
    body_box: Box
    head_box: Box
    pred: tuple[str, ...]
    """The answer: labels above the final threshold."""
    VI: tuple[str, ...]
    """The vocabulary-informed head's labels; as the next three, above the level threshold."""
    head: tuple[str, ...]
    """A level's labels before coordination."""
    body: tuple[str, ...]
    ctx: tuple[str, ...]
    emo_process: tuple[str, ...]
    """``head-level``, ``body-level``, ``context-level`` in the order of being excluded."""
    scores: Mapping[str, Mapping[str, float]]
    """``pred``, ``VI``, ``head``, ``body``, ``ctx`` -> label -> probability."""
    refined: Mapping[str, Mapping[str, float]]
    """``head``, ``body``, ``ctx`` -> label -> probability after coordination."""
    losses: Mapping[str, float]
    """``head``, ``body``, ``context`` -> disagreement with the pseudo-label."""
    coordination: Coordination

    def to_dict(self) -> dict[str, list[str]]:
        """The release's dictionary of one person."""
        return {key: list(getattr(self, key)) for key in ("pred", "VI", "head", "body", "ctx", "emo_process")}


@dataclass(frozen=True)
class ModelInfo:
    """The build that answered."""

    version: str
    weights: str
    synthetic: bool
    """Random weights: the labels mean nothing."""
    detector: str
    channel_order: str
    precision: str


@dataclass(frozen=True)
class Result:
    """What the server found in one image."""

    width: int
    height: int
    persons: tuple[Person, ...]
    labels: tuple[str, ...]
    """The 26 categories."""
    model: ModelInfo
    timing_ms: Mapping[str, float] | None = None
    """Stage -> milliseconds, where asked for."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """RESULT as the server sent it."""

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any]) -> Result:
        """Args:
        raw: RESULT, decoded (docs/result.schema.json).
        """
        labels = tuple(raw["labels"])
        return cls(
            width=raw["image"]["width"],
            height=raw["image"]["height"],
            persons=tuple(_person(person, labels) for person in raw["persons"]),
            labels=labels,
            model=ModelInfo(**raw["model"]),
            timing_ms=MappingProxyType(raw["timing_ms"]) if "timing_ms" in raw else None,
            raw=raw,
        )

    def to_dict(self) -> dict[str, dict[str, list[str]]]:
        """The release's dictionary of an image: persons by their position, "0" the first."""
        return {str(index): person.to_dict() for index, person in enumerate(self.persons)}


def _person(raw: Mapping[str, Any], labels: Sequence[str]) -> Person:
    lists = {key: tuple(raw[key]) for key in ("pred", "VI", "head", "body", "ctx", "emo_process")}
    weights = raw["coordination"]
    return Person(
        id=raw["id"],
        body_box=Box(*raw["body_box"]),
        head_box=Box(*raw["head_box"]),
        **lists,
        scores=_by_label(raw["scores"], labels),
        refined=_by_label(raw["refined"], labels),
        losses=MappingProxyType(raw["losses"]),
        coordination=Coordination(
            **{key: MappingProxyType(weights[key]) for key in ("lambda_w1", "lambda_b1", "lambda_w2", "lambda_b2")},
            grad_distance=weights["grad_distance"],
        ),
    )


def _by_label(scores: Mapping[str, Sequence[float]], labels: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
    return MappingProxyType({key: MappingProxyType(dict(zip(labels, values))) for key, values in scores.items()})
