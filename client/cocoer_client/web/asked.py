"""What a request asks for beside its image: in the query, or in fields of the form."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams

from cocoer_client.protocol import MAX_PERSONS, OnDamage
from cocoer_client.web.problems import Problem

Threshold = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Pixel = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""Strict: neither true nor "12" is a number."""
Corners = tuple[Pixel, Pixel, Pixel, Pixel]
AskedT = TypeVar("AskedT", bound="Asked")


class Boxes(BaseModel):
    """Boxes of one person, pixels of the upright image."""

    model_config = ConfigDict(extra="forbid")
    body: Corners = Field(description="x1, y1, x2, y2")
    head: Corners | None = Field(None, description="x1, y1, x2, y2; left out: looked for")


class Asked(BaseModel):
    """Options of recognition."""

    model_config = ConfigDict(extra="forbid")

    persons: list[Boxes] | None = Field(
        None, max_length=MAX_PERSONS, description="Boxes as JSON; with them, nobody is looked for."
    )
    final_threshold: Threshold | None = Field(None, description="Final labels above this probability.")
    level_threshold: Threshold | None = Field(None, description="Labels of a level and of V-I above this probability.")
    min_score: Threshold | None = Field(None, description="Detections above this score.")
    on_damage: OnDamage | None = Field(None, description="Damaged images: refuse them, or use what there is of them.")
    fast_decode: bool | None = Field(
        None, description="Have large JPEGs decoded smaller where no crop would be enlarged: faster, nearly the same."
    )
    timing: bool | None = Field(None, description="Have the answer say how long each stage took.")

    @property
    def boxes(self) -> list[dict[str, Any]] | None:
        """For the client."""
        return None if self.persons is None else [one.model_dump() for one in self.persons]

    def options(self) -> dict[str, Any]:
        """Request parameters that are given."""
        return self.model_dump(exclude={"persons", *AskedToDraw.own()}, exclude_none=True)


class AskedToDraw(Asked):
    """And of the annotated image."""

    style: Literal["panel", "release"] = Field("panel", description="How it looks.")
    drawn_boxes: Literal["both", "heads", "none"] = Field("both", description="Which boxes are drawn.")
    quality: int = Field(90, ge=1, le=100, description="Of JPEG and WebP.")

    @classmethod
    def own(cls) -> set[str]:
        """What is not the server's."""
        return set(cls.model_fields) - set(Asked.model_fields)


EXPECTED: Mapping[str, str] = {
    "persons": f'JSON such as [{{"body": [x1, y1, x2, y2], "head": [x1, y1, x2, y2]}}], {MAX_PERSONS} persons at most, '
    "pixels as numbers; a head may be left out",
    "final_threshold": "a number from 0 to 1",
    "level_threshold": "a number from 0 to 1",
    "min_score": "a number from 0 to 1",
    "on_damage": "refuse or accept",
    "fast_decode": "true or false",
    "timing": "true or false",
    "style": "panel or release",
    "drawn_boxes": "both, heads or none",
    "quality": "a whole number from 1 to 100",
}
"""Parameter -> what it may be."""


def read_asked(kind: type[AskedT], query: QueryParams, fields: Mapping[str, str]) -> AskedT:
    """What is asked for.

    Args:
        kind: ``Asked``, or what has more.
        query: of the URL.
        fields: of the form.

    Raises:
        Problem: a parameter that there is not, or twice, or with a value that makes no sense.
    """
    names = Counter([*(name for name, _ in query.multi_items()), *fields])
    for name, count in names.items():
        if name not in kind.model_fields:
            there = ", ".join(kind.model_fields)
            raise Problem("parameter", f"there is no parameter {_shown(name)}; there are {there}")
        if count > 1:
            raise Problem("parameter", f"{name} is given more than once; give it once, in the query or in the form")
    given: dict[str, Any] = {**query, **fields}
    for name, value in given.items():
        if not value.strip():
            raise _senseless(name, f"{name} is empty; leave it out, or give ")
    if "persons" in given:
        given["persons"] = _from_json(given["persons"])
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        parameter, *path = first["loc"]
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{_shown(step)}" for step in path[:4])
        raise _senseless(str(parameter), f"{parameter}{place}: {first['msg']}; give ") from None


def _senseless(name: str, what: str) -> Problem:
    return Problem("persons" if name == "persons" else "parameter", what + EXPECTED[name])


def _from_json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):  # of numbers with thousands of digits too, and of nesting without end
        raise _senseless("persons", "persons is not JSON; give ") from None


def _no_number(constant: str) -> Any:
    raise ValueError(constant)  # NaN and Infinity are no JSON


def _shown(name: str) -> str:
    """A caller's name as it can be told: short, and Unicode."""
    return name[:60].encode("utf-8", "replace").decode()
