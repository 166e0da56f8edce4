"""One person, asked about in each mode."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cocoer_client.protocol import Level
from cocoer_client.vlm.answers import Answer, read_answer
from cocoer_client.vlm.cache import Cache
from cocoer_client.vlm.cost import Estimate, prompt_tokens
from cocoer_client.vlm.crops import ImageOptions, SentImage, collage
from cocoer_client.vlm.endpoint import Endpoint, RequestFailed, Usage
from cocoer_client.vlm.modes import Mode, excluded_level, levels_of
from cocoer_client.vlm.prompt import Message, Prompt, schema_of

logger = logging.getLogger(__name__)
COMPARED: tuple[Mode, ...] = ("single", "multi")
"""What ``enhanced`` is compared with."""


@dataclass(frozen=True)
class Subject:
    """A person to ask about.

    Args:
        file: the image, as the user names it.
        person: of RESULT.
        levels: their images, the same for all modes.
    """

    file: str
    person: Mapping[str, Any]
    levels: Mapping[Level, SentImage]

    @property
    def name(self) -> str:
        """Of the person in the run."""
        return f"{self.file}#{self.person['id']}"


@dataclass(frozen=True)
class Asked:
    """One question and its answer.

    Args:
        mode: the way of asking.
        excluded: the level that was left out; None: none.
        images: as sent.
        answer: what was said.
        usage: tokens; of an answer that was kept, what it once cost.
        cached: it was kept from before: nothing was asked.
    """

    mode: Mode
    excluded: Level | None
    images: tuple[SentImage, ...]
    answer: Answer
    usage: Usage = Usage()
    cached: bool = False


@dataclass(frozen=True)
class Questions:
    """How persons are asked about: all that a run has in common.

    Args:
        prompt: what is said.
        labels: the 26, as RESULT names them.
        images: size and quality.
        detail: of the interface's images.
        as_collage: one image of all levels, for models that take one.
    """

    prompt: Prompt
    labels: tuple[str, ...]
    images: ImageOptions = ImageOptions()
    detail: str = "auto"
    as_collage: bool = False

    def sent(self, subject: Subject, mode: Mode) -> tuple[SentImage, ...]:
        """The images of a mode, in their order."""
        images = [subject.levels[level] for level in levels_of(mode, subject.person["emo_process"], subject.name)]
        if self.as_collage and len(images) > 1:
            return (collage(images, self.images),)
        return tuple(images)

    def messages(self, images: Sequence[SentImage]) -> list[Message]:
        """What is sent with them."""
        return self.prompt.question(images, self.detail)

    @property
    def schema(self) -> dict[str, Any]:
        """Of the answer."""
        return schema_of(self.labels)


def ask_in_modes(
    subject: Subject, modes: Sequence[Mode], questions: Questions, endpoint: Endpoint, cache: Cache
) -> list[Asked]:
    """All modes of one person, one after the other: what two of them have in common is asked once.

    Raises:
        EndpointUnusable: nobody will be answered.
    """
    return [ask(subject, mode, questions, endpoint, cache) for mode in modes]


def ask(subject: Subject, mode: Mode, questions: Questions, endpoint: Endpoint, cache: Cache) -> Asked:
    """One mode of one person."""
    images = questions.sent(subject, mode)
    without = excluded_level(mode, subject.person["emo_process"], subject.name)
    body = endpoint.body(questions.messages(images), questions.schema)
    key = cache.key(endpoint.options.base_url, body)
    kept = reply = cache.get(key)
    if reply is None:
        try:
            reply = endpoint.ask(body)
        except RequestFailed as error:
            logger.debug("%s, %s: %s", subject.name, mode, error)
            return Asked(mode, without, images, Answer("failed", text=str(error)))
        cache.put(key, reply)
    answer = read_answer(reply.text, reply.refusal, reply.finish_reason, questions.labels)
    return Asked(mode, without, images, answer, reply.usage, cached=kept is not None)


def estimate(
    subject: Subject, modes: Sequence[Mode], questions: Questions, endpoint: Endpoint, cache: Cache
) -> Estimate:
    """What ``ask_in_modes`` will cost."""
    total, seen = Estimate(), set()
    for mode in modes:
        images = questions.sent(subject, mode)
        messages = questions.messages(images)
        key = cache.key(endpoint.options.base_url, endpoint.body(messages, questions.schema))
        if key in seen or cache.get(key) is not None:
            total += Estimate(kept=1)
        else:
            sent = prompt_tokens(messages, images, questions.detail)
            total += Estimate(1, 0, sent, endpoint.options.max_tokens)
        seen.add(key)
    return total


def only_in_enhanced(asked: Sequence[Asked]) -> tuple[str, ...]:
    """Labels that ``enhanced`` has, and neither ``single`` nor ``multi``, of those whose answer could be read.

    Where neither could, there is nothing to compare with, and no label counts as new.
    """
    read = {one.mode: one.answer.labels for one in asked if one.answer.is_read}
    others = [read[mode] for mode in COMPARED if mode in read]
    return tuple(label for label in read.get("enhanced", ()) if others and not any(label in one for one in others))


def lost_in_enhanced(asked: Sequence[Asked]) -> tuple[str, ...]:
    """Labels that ``multi`` has and ``enhanced`` has not, where both answers could be read."""
    read = {one.mode: one.answer.labels for one in asked if one.answer.is_read}
    if "enhanced" not in read:
        return ()
    return tuple(label for label in read.get("multi", ()) if label not in read["enhanced"])
