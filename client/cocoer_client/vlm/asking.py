"""One person, asked about in each mode."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cocoer_client.ordered import is_ending
from cocoer_client.protocol import Level
from cocoer_client.vlm.answers import Answer, read_answer
from cocoer_client.vlm.cache import Cache
from cocoer_client.vlm.cost import Estimate, prompt_tokens
from cocoer_client.vlm.crops import Crops, ImageOptions, SentImage
from cocoer_client.vlm.endpoint import Endpoint, Reply, RequestFailed, Usage
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
    levels: Crops

    @property
    def name(self) -> str:
        """Of the person in the run."""
        return f"{self.file}, person {self.person['id']}"

    @property
    def identity(self) -> str:
        """The same wherever the image lies: what ``exclude_random`` depends on."""
        return hashlib.sha256(self.levels["context"].data).hexdigest()


@dataclass(frozen=True)
class Asked:
    """One question and its answer.

    Args:
        mode: the way of asking.
        excluded: the level that was left out; None: none.
        images: as sent.
        answer: what was said.
        usage: tokens; of an answer that was kept, what it once cost.
        cached: it was kept from before, or of another mode that sends the same: nothing was asked.
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
        modes: in the order in which they are asked.
        prompt: what is said.
        labels: the 26, as RESULT names them.
        images: size and quality.
        detail: of the interface's images.
        seed: of ``exclude_random``.
    """

    modes: tuple[Mode, ...]
    prompt: Prompt
    labels: tuple[str, ...]
    images: ImageOptions = ImageOptions()
    detail: str = "auto"
    seed: int = field(default=0, kw_only=True)

    def sent(self, subject: Subject, mode: Mode) -> tuple[SentImage, ...]:
        """The images of a mode, in their order."""
        levels = levels_of(mode, subject.person["emo_process"], subject.identity, self.seed)
        if self.images.collage and len(levels) > 1:
            return (subject.levels.collages[levels],)
        return tuple(subject.levels[level] for level in levels)

    def messages(self, images: Sequence[SentImage]) -> list[Message]:
        """What is sent with them."""
        return self.prompt.question(images, self.detail)

    @property
    def schema(self) -> dict[str, Any]:
        """Of the answer."""
        return schema_of(self.labels)


@dataclass(frozen=True)
class Asker:
    """Asks a model about persons, or finds what was answered before. Threads may share it."""

    questions: Questions
    endpoint: Endpoint
    cache: Cache

    def ask(self, subject: Subject) -> list[Asked]:
        """All modes of one person, one after the other: what two of them have in common is asked once.

        Fewer where the run is ending (``ordered.is_ending``).

        Raises:
            EndpointUnusable: nobody will be answered.
        """
        known: dict[tuple[SentImage, ...], Asked] = {}
        asked = []
        for mode in self.questions.modes:
            if is_ending():
                break
            asked.append(self._ask(subject, mode, known))
        return asked

    def estimate(self, subject: Subject) -> Estimate:
        """What ``ask`` will cost."""
        total, seen = Estimate(), set[str]()
        for mode in self.questions.modes:
            images = self.questions.sent(subject, mode)
            total += self.cost_of(self._body(images), images, seen, self.endpoint.options.max_tokens)
        return total

    def cost_of(self, body: Mapping[str, Any], images: Sequence[SentImage], seen: set[str], longest: int) -> Estimate:
        """What a request will cost.

        Args:
            body: of the request.
            images: in it.
            seen: keys of requests that are counted already, which cost nothing again; this one's is added.
            longest: tokens of its answer, at most.
        """
        key = self.cache.key(self.endpoint.options.base_url, body)
        if self.cache.get(key) is not None:
            return Estimate(kept=1)
        if key in seen:
            return Estimate(repeated=1)
        seen.add(key)
        model, detail = self.endpoint.options.model, self.questions.detail
        sent = prompt_tokens(body["messages"], images, detail, model, body.get("response_format"))
        return Estimate(1, 0, sent, longest)

    def reply_to(self, body: Mapping[str, Any]) -> tuple[Reply, bool]:
        """The reply to a request, and whether it was kept from before.

        Raises:
            RequestFailed, EndpointUnusable: see there.
        """
        key = self.cache.key(self.endpoint.options.base_url, body)
        kept = self.cache.get(key)
        if kept is not None:
            return kept, True
        reply = self.endpoint.ask(body)
        self.cache.put(key, reply)
        return reply, False

    def _body(self, images: Sequence[SentImage]) -> dict[str, Any]:
        return self.endpoint.body(self.questions.messages(images), self.questions.schema)

    def _ask(self, subject: Subject, mode: Mode, known: dict[tuple[SentImage, ...], Asked]) -> Asked:
        images = self.questions.sent(subject, mode)
        without = excluded_level(mode, subject.person["emo_process"], subject.identity, self.questions.seed)
        # Of one person, modes differ in nothing but their images.
        if before := known.get(images):
            return Asked(mode, without, images, before.answer, before.usage, cached=True)
        try:
            reply, cached = self.reply_to(self._body(images))
        except RequestFailed as error:
            logger.debug("%s, %s: %s", subject.name, mode, error)
            return Asked(mode, without, images, Answer("failed", text=str(error)))
        answer = read_answer(reply.text, reply.refusal, reply.finish_reason, self.questions.labels)
        asked = known[images] = Asked(mode, without, images, answer, reply.usage, cached)
        return asked


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
