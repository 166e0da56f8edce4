"""RESULT's JSON Schema, from ``cocoer_client.results``: ``python -m cocoer_client.schema docs/result.schema.json``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from cocoer_client.files import replace_file
from cocoer_client.results import Failure, Result

IDENTITY = {
    "$schema": GenerateJsonSchema.schema_dialect,
    "$id": "https://cocoer-serving.invalid/result.schema.json",
    "title": "RESULT",
    "description": "What the model cocoer answers for one image. An image that fails in a batch of several has "
    "an error instead, and so has with on_refusal one that is refused.",
}


class _Untitled(GenerateJsonSchema):
    """Without a title for each field, which would say its name again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """The schema (2020-12) of what the server answers for one image."""
    kinds: list[tuple[Any, Any]] = [(Result, "validation"), (Failure, "validation")]
    references, whole = models_json_schema(kinds, schema_generator=_Untitled)
    return {**IDENTITY, "oneOf": [references[kind] for kind in kinds], "$defs": whole["$defs"]}


def definitions(*models: type[BaseModel], template: str) -> dict[str, Any]:
    """Schemas of models and of what they consist of, by name, for a document that has them at a place of its own.

    Args:
        models: their schemas are wanted.
        template: how such a document refers to one: ``#/components/schemas/{model}``.
    """
    kinds: list[tuple[Any, Any]] = [(model, "validation") for model in models]
    _, whole = models_json_schema(kinds, schema_generator=_Untitled, ref_template=template)
    return dict(whole["$defs"])


def text() -> str:
    """The schema as a file."""
    return json.dumps(json_schema(), indent=2) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the JSON Schema of RESULT.")
    parser.add_argument("path", type=Path, metavar="FILE", help="where to, for instance docs/result.schema.json")
    path: Path = parser.parse_args(argv).path
    replace_file(path, lambda temporary: temporary.write_text(text()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
