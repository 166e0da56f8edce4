"""What a request asks for beside its image: in the query, or in fields of the form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cocoer_client.protocol import MAX_PERSONS, OnDamage
from cocoer_client.web.problems import Problem

Threshold = Annotated[float, Field(ge=0, le=1)]
Corners = tuple[float, float, float, float]


class Boxes(BaseModel):
    """Boxes of one person, pixels of the upright image."""

    model_config = ConfigDict(extra="forbid")
    body: Corners = Field(description="x1, y1, x2, y2")
    head: Corners | None = Field(None, description="x1, y1, x2, y2; left out: looked for")


def _decoded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class Asked(BaseModel):
    """Options of recognition."""

    model_config = ConfigDict(extra="forbid")

    persons: Annotated[list[Boxes] | None, BeforeValidator(_decoded)] = Field(
        None, max_length=MAX_PERSONS, description="Boxes as JSON; with them, nobody is looked for."
    )
    final_threshold: Threshold | None = Field(None, description="Final labels above this probability.")
    level_threshold: Threshold | None = Field(None, description="Labels of a level and of V-I above this probability.")
    min_score: Threshold | None = Field(None, description="Detections above this score.")
    on_damage: OnDamage | None = Field(None, description="Damaged images: refuse them, or use what there is of them.")
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


def read_asked(kind: type[Asked], query: Mapping[str, str], fields: Mapping[str, str]) -> Any:
    """What is asked for.

    Raises:
        Problem: a parameter that there is not, or twice, or with a value that makes no sense.
    """
    if twice := sorted(set(query) & set(fields)):
        raise Problem("parameter", f"{twice[0][:60]} is in the query and in the form")
    try:
        return kind.model_validate({**query, **fields})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:60]
        there = ", ".join(kind.model_fields)
        hint = f"; there are {there}" if first["type"] == "extra_forbidden" else ""
        raise Problem(
            "persons" if place.startswith("persons") else "parameter", f"{place}: {first['msg']}{hint}"
        ) from None
