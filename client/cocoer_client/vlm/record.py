"""A run as JSON."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from cocoer_client.reading import warnings_of
from cocoer_client.vlm.asking import Asked, Questions, Subject, only_in_enhanced
from cocoer_client.vlm.endpoint import EndpointOptions, Usage
from cocoer_client.vlm.modes import Mode
from cocoer_client.vlm.people import Recognised

OF_PERSON = ("id", "body_box", "head_box", "emo_process", "pred")
"""Fields of RESULT that are told again."""


class Record:
    """What was asked and answered.

    Args:
        questions: how it was asked.
        endpoint: whom; its key is not written.
        images: all that were recognised, or not.
    """

    def __init__(self, questions: Questions, endpoint: EndpointOptions, images: Sequence[Recognised]) -> None:
        self.images = images
        warnings = {warning: None for image in images if image.result for warning in warnings_of(image.result)}
        self.about: dict[str, Any] = {
            "model": endpoint.model,
            "base_url": endpoint.base_url,
            "prompt_version": questions.prompt.version,
            "prompt_digest": questions.prompt.digest,
            "modes": list(questions.modes),
            "quality": questions.images.quality,
            "seed": questions.seed,
            "collage": questions.images.collage,
            "longest_side": questions.images.longest_side,
            "detail": questions.detail,
            "max_tokens": endpoint.max_tokens,
            "warnings": list(warnings),
        }
        self.persons: dict[str, list[dict[str, Any]]] = {}
        self.counts: dict[Mode, Counter[str]] = {mode: Counter() for mode in questions.modes}
        self.usage, self.kept = Usage(), 0

    @property
    def failed(self) -> int:
        """Questions without an answer."""
        return sum(count["failed"] for count in self.counts.values())

    def add(self, subject: Subject, asked: Sequence[Asked]) -> None:
        """One person."""
        for one in asked:
            self.counts[one.mode][one.answer.kind] += 1
            self.kept += one.cached
            self.usage += Usage() if one.cached else one.usage
        answers = {one.mode: _answer(one) for one in asked}
        person = {key: subject.person[key] for key in OF_PERSON}
        entry = {**person, "answers": answers, "only_enhanced": only_in_enhanced(asked)}
        self.persons.setdefault(subject.file, []).append(entry)

    def whole(self, notes: Sequence[str]) -> dict[str, Any]:
        """All of it, as docs/vlm.md describes it.

        Args:
            notes: what the server did not take of requests.
        """
        return {
            **self.about,
            "notes": list(notes),
            "counts": {mode: dict(count) for mode, count in self.counts.items()},
            "usage": _usage(self.usage),
            "answers_kept": self.kept,
            "images": [self._image(image) for image in self.images],
        }

    def _image(self, image: Recognised) -> dict[str, Any]:
        name = image.source.name
        if image.result is None:
            return {"file": name, "error": image.error}
        facts = {key: image.result[key] for key in ("image", "model")}
        return {"file": name, **facts, "persons": self.persons.get(name, [])}


def _answer(one: Asked) -> dict[str, Any]:
    answer = one.answer
    images = [
        {"levels": image.levels, "size": image.size, "sha256": hashlib.sha256(image.data).hexdigest()}
        for image in one.images
    ]
    return {
        "excluded": one.excluded,
        "images": images,
        "kind": answer.kind,
        "labels": answer.labels,
        "unknown": answer.unknown,
        "text": answer.text,
        "usage": _usage(one.usage),
        "kept": one.cached,
    }


def _usage(usage: Usage) -> dict[str, int]:
    return {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion}
