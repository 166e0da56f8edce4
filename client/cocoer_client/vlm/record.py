"""A run as JSON."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from cocoer_client.vlm.asking import Asked, Questions, Subject, only_in_enhanced
from cocoer_client.vlm.endpoint import EndpointOptions, Usage
from cocoer_client.vlm.modes import Mode
from cocoer_client.vlm.people import Recognised


class Record:
    """What was asked and answered.

    Args:
        modes: that were asked.
        questions: how.
        endpoint: whom; its key is not written.
    """

    def __init__(self, modes: Sequence[Mode], questions: Questions, endpoint: EndpointOptions) -> None:
        self.about: dict[str, Any] = {
            "model": endpoint.model,
            "base_url": endpoint.base_url,
            "prompt_version": questions.prompt.version,
            "prompt_digest": questions.prompt.digest,
            "modes": list(modes),
            "collage": questions.as_collage,
            "longest_side": questions.images.longest_side,
            "detail": questions.detail,
            "max_tokens": endpoint.max_tokens,
        }
        self.persons: dict[str, list[dict[str, Any]]] = {}
        self.counts: dict[Mode, Counter[str]] = {mode: Counter() for mode in modes}
        self.usage, self.kept = Usage(), 0

    def add(self, subject: Subject, asked: Sequence[Asked]) -> None:
        """One person."""
        for one in asked:
            self.counts[one.mode][one.answer.kind] += 1
            self.kept += one.cached
            self.usage += Usage() if one.cached else one.usage
        person = subject.person
        self.persons.setdefault(subject.file, []).append(
            {
                **{key: person[key] for key in ("id", "body_box", "head_box", "emo_process", "pred")},
                "answers": {one.mode: _answer(one) for one in asked},
                "only_enhanced": list(only_in_enhanced(asked)),
            }
        )

    def whole(self, recognised: Sequence[Recognised]) -> dict[str, Any]:
        """All of it."""
        images = [
            {"file": one.source.name, "error": one.error}
            if one.result is None
            else {
                "file": one.source.name,
                "image": one.result["image"],
                "model": one.result["model"],
                "persons": self.persons.get(one.source.name, []),
            }
            for one in recognised
        ]
        usage = {"prompt_tokens": self.usage.prompt, "completion_tokens": self.usage.completion}
        counts = {mode: dict(count) for mode, count in self.counts.items()}
        return {**self.about, "counts": counts, "usage": usage, "answers_kept": self.kept, "images": images}


def _answer(one: Asked) -> dict[str, Any]:
    answer = one.answer
    return {
        "excluded": one.excluded,
        "images": [
            {"levels": image.levels, "size": image.size, "sha256": hashlib.sha256(image.data).hexdigest()}
            for image in one.images
        ],
        "kind": answer.kind,
        "labels": answer.labels,
        "unknown": answer.unknown,
        "text": answer.text,
        "usage": {"prompt_tokens": one.usage.prompt, "completion_tokens": one.usage.completion},
        "kept": one.cached,
    }
