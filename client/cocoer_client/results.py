"""RESULT, the server's answer for one image: the one definition of it.

``Result`` and ``Failure`` are RESULT on the wire, field by field. What else speaks of RESULT is made from them: the
JSON Schema (``schema.py``), tables in Parquet (``tables.py``), that of ``cocoer-infer --csv`` and of
pandas (``columns.py``), COCO's annotations (``coco.py``). A new field is added here, and named there only where it
should not become a column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from cocoer_client.frozen import FrozenDict
from cocoer_client.protocol import LABEL_COUNT, MAX_PERSONS, Level

if TYPE_CHECKING:
    import pandas
    import supervision

Key = TypeVar("Key")
Value = TypeVar("Value")


def one_of(*values: str) -> Any:
    """A string that is one of these today. The schema says so; a client takes what a newer server says instead."""
    return Field(json_schema_extra={"enum": list(values)})


def described(text: str, **limits: Any) -> Any:
    """A field's description, and its limits."""
    return Field(description=text, **limits)


def _never_null(schema: dict[str, Any]) -> None:
    """The schema of a field that is absent where a client says None."""
    schema.pop("default", None)
    schema |= next(kind for kind in schema.pop("anyOf") if kind != {"type": "null"})


def _all_required(schema: dict[str, Any]) -> None:
    """The schema of what a server always sends, though a client does without it."""
    schema["required"] = list(schema["properties"])
    for field in schema["properties"].values():
        field.pop("default", None)


Pixel = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Probabilities = Annotated[tuple[Probability, ...], Field(min_length=LABEL_COUNT, max_length=LABEL_COUNT)]
# The QP that they solve leaves them so far outside.
Weight = Annotated[float, Field(ge=-1e-6, le=1.000001)]
Frozen = Annotated[Mapping[Key, Value], AfterValidator(FrozenDict)]
Chosen = Annotated[tuple[str, ...], Field(json_schema_extra={"uniqueItems": True})]
LevelName = Literal["head-level", "body-level", "context-level"]
Stage = Annotated[str, one_of("decode", "letterbox", "detection", "match", "windows", "recognition", "result")]
REASONS = (
    "empty", "bytes", "format", "pixels", "scans", "damaged", "persons", "parameter", "request",
    "internal", "memory", "cancelled",
)  # fmt: skip
"""Why an image has no result: first what is refused, then failures of the server."""
CORNERS = "x1, y1, x2, y2 in pixels of the upright image, inside it; x2 and y2 are one past the last pixel."


class Box(NamedTuple):
    """Corners, in pixels of the upright image; x2 and y2 are one past the last pixel."""

    x1: Pixel
    y1: Pixel
    x2: Pixel
    y2: Pixel


class Part(BaseModel):
    """RESULT or a part of it: immutable, equal where its values are."""

    # What is not defined here is refused, but by Result.from_raw. Built where first needed, which is not on import.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise FrozenInstanceError(f"results can't be changed: {type(self).__name__}.{name}")
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__


class ByLabel(Part, Mapping[str, Mapping[str, float]]):
    """Lists of probabilities, as the server sends them: ``scores.pred``; and by label: ``scores["pred"]["peace"]``."""

    _labels: tuple[str, ...] = PrivateAttr(())

    def __getitem__(self, key: str) -> Mapping[str, float]:
        """Label -> probability; raises KeyError where there is no such list."""
        if key not in type(self).model_fields:
            raise KeyError(key)
        return FrozenDict(zip(self._labels, getattr(self, key), strict=True))

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(type(self).model_fields)

    def __len__(self) -> int:
        return len(type(self).model_fields)


class Scores(ByLabel):
    """Probabilities that the lists of labels are made from."""

    pred: Probabilities
    VI: Probabilities
    head: Probabilities
    body: Probabilities
    ctx: Probabilities


class Refined(ByLabel):
    """The levels' probabilities after coordination."""

    head: Probabilities
    body: Probabilities
    ctx: Probabilities


class Coordination(Part):
    """How the method weighs the levels against each other (CocoER, section 3); no prediction depends on it."""

    lambda_w1: Frozen[Level, Weight] = described("Over all three levels, gradients of weights.", min_length=3)
    lambda_b1: Frozen[Level, Weight] = described("The same of biases.", min_length=3)
    lambda_w2: Frozen[Level, Weight] = described("Without the level excluded first.", min_length=2, max_length=2)
    lambda_b2: Frozen[Level, Weight] = described("The same of biases.", min_length=2, max_length=2)
    grad_distance: NonNegative = described("Distance between the gradients of both.")


class Person(Part):
    """One person of an image."""

    id: int = described("From 1; where boxes were given, the row of PERSONS + 1.", ge=1)
    body_box: Box = described(CORNERS)
    head_box: Box = described(CORNERS)
    pred: Chosen = described("The answer: labels whose final probability is above final_threshold.")
    VI: Chosen = described("The vocabulary-informed head's labels above level_threshold.")
    head: Chosen = described("The head level's labels above level_threshold, before coordination.")
    body: Chosen = described("The same of the body level.")
    ctx: Chosen = described("The same of the context level.")
    emo_process: tuple[LevelName, ...] = described(
        "Levels in the order of being excluded.", min_length=3, max_length=3, json_schema_extra={"uniqueItems": True}
    )
    scores: Scores
    refined: Refined
    losses: Frozen[Level, NonNegative] = described(
        "Each level's disagreement with the pseudo-label; the largest is excluded first.", min_length=3
    )
    coordination: Coordination

    def to_dict(self) -> dict[str, list[str]]:
        """The release's dictionary of one person."""
        return {key: list(getattr(self, key)) for key in LISTS}


class ModelInfo(Part):
    """The build that answered."""

    version: str
    weights: str = described("SHA-256 of the weights, or that they are synthetic.")
    synthetic: bool = described("Random weights: the labels mean nothing.")
    detector: str
    channel_order: Literal["bgr", "rgb"]
    coordination_step: NonNegative = described("Size of coordination's gradient step; 0: none was taken.")
    precision: Annotated[str, one_of("fp32", "fp16", "bf16", "int8")]

    @model_validator(mode="before")
    @classmethod
    def _of_older_servers(cls, data: Any) -> Any:
        """They don't name the coordination step: it is always 1."""
        return {"coordination_step": 1.0, **data} if isinstance(data, Mapping) else data


class ImageSize(Part):
    """The image, upright (turned by its EXIF orientation)."""

    model_config = ConfigDict(json_schema_extra=_all_required)

    width: int = Field(ge=1)
    height: int = Field(ge=1)
    damage: str | None = Field(
        None,
        description="With on_damage: what is wrong with the file, of which some pixels may be missing; else null.",
    )
    """A server before this field sends none."""


class Result(Part):
    """What the server found in one image."""

    image: ImageSize
    persons: tuple[Person, ...] = Field(max_length=MAX_PERSONS)
    labels: tuple[str, ...] = described(
        "The 26 EMOTIC categories, in the order of every list of probabilities.",
        min_length=LABEL_COUNT,
        max_length=LABEL_COUNT,
        json_schema_extra={"uniqueItems": True},
    )
    model: ModelInfo
    timing_ms: Frozen[Stage, NonNegative] | None = Field(
        None,
        description="Stage -> milliseconds, with the request parameter timing.",
        exclude_if=lambda value: value is None,
        json_schema_extra=_never_null,
    )

    _raw: Mapping[str, Any] | None = PrivateAttr(None)

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any]) -> Result:
        """A result from RESULT as decoded JSON; what a newer server adds to it stays in ``raw`` alone.

        Raises:
            pydantic.ValidationError: it is not a RESULT.
        """
        result = cls.model_validate(raw, extra="ignore")
        result._raw = raw
        return result

    def model_post_init(self, context: Any, /) -> None:
        """Persons' probabilities learn the labels, which RESULT has once for all."""
        for person in self.persons:
            person.scores._labels = person.refined._labels = self.labels

    @property
    def width(self) -> int:
        """Pixels, upright."""
        return self.image.width

    @property
    def height(self) -> int:
        """Pixels, upright."""
        return self.image.height

    @property
    def raw(self) -> Mapping[str, Any]:
        """RESULT as the server sent it, decoded (docs/result.md)."""
        return self.model_dump(mode="json") if self._raw is None else self._raw

    def to_dict(self) -> dict[str, dict[str, list[str]]]:
        """The release's dictionary of an image: persons by their position, "0" the first."""
        return {str(index): person.to_dict() for index, person in enumerate(self.persons)}

    def to_pandas(self, file: str = "") -> pandas.DataFrame:
        """A row for each person, with the columns of ``cocoer-infer --csv``; none where there is nobody.

        Args:
            file: for the column of this name, by which tables of several images are told apart.

        Raises:
            InvalidInput: pandas is not installed (the extra ``pandas``).
        """
        from cocoer_client.exports import to_pandas

        return to_pandas(self, file)

    def to_supervision(self) -> supervision.Detections:
        """Body boxes as ``supervision.Detections``, for its annotators, trackers and zones.

        There are no classes. ``data`` has ``person`` (ids), ``labels`` (a list for each person), ``scores`` (FP32
        [N, 26], the final probabilities) and ``head_xyxy`` (FP32 [N, 4]); ``metadata["labels"]`` says whose they are.

        Raises:
            InvalidInput: supervision is not installed (the extra ``supervision``).
        """
        from cocoer_client.exports import to_supervision

        return to_supervision(self)


class Error(Part):
    """Why there is no result."""

    code: Annotated[str, one_of("INVALID_ARG", "UNAVAILABLE", "INTERNAL", "CANCELLED")]
    message: str
    reason: Annotated[str, one_of(*REASONS)] | None = Field(
        None, description="What kind of fault it is: a label of the server's metrics.", json_schema_extra=_never_null
    )
    """A server before this field sends none."""


class Failure(Part):
    """In the place of an image that failed: in a batch of several, and with on_refusal of one that is refused."""

    error: Error


BOXES = tuple(name for name, field in Person.model_fields.items() if field.annotation is Box)
"""A person's boxes."""
CHOSEN = tuple(Scores.model_fields)
"""A person's lists of labels, each with its probabilities in ``scores``."""
LISTS = (*CHOSEN, "emo_process")
"""A person's lists: the release's dictionary of them."""
