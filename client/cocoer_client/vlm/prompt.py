"""Prompts: files with a version, of which messages are made."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from cocoer_client.errors import InvalidInput
from cocoer_client.vlm.crops import MEDIA_TYPE, SentImage

BUILT_IN = Path(__file__).with_name("prompts") / "emotic-1.md"
SECTIONS = (
    "version", "system", "labels", "one image", "several images", "collage", "context", "body", "head", "question",
    "yes or no",
)  # fmt: skip
Message = dict[str, Any]
"""Of the interface: ``role`` and ``content``."""


@dataclass(frozen=True)
class Prompt:
    """A prompt.

    Args:
        text: of the file: Markdown with a heading for each of ``SECTIONS``; Jinja2 in it.
    """

    text: str
    sections: Mapping[str, str]

    @classmethod
    def load(cls, path: Path | None) -> Prompt:
        """Read a file; None: the built-in one.

        Raises:
            InvalidInput: it can't be read, or lacks a section; names it.
        """
        path = path or BUILT_IN
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"can't read the prompt {path}: {error}") from error
        parts = re.split(r"^# (.+)$", text, flags=re.MULTILINE)[1:]
        sections = {name.strip(): body.strip() for name, body in zip(parts[::2], parts[1::2])}
        missing = [name for name in SECTIONS if not sections.get(name)]
        if missing:
            raise InvalidInput(f"{path} has no section {', '.join(missing)}; --show-prompt shows a whole prompt")
        return cls(text, sections)

    @property
    def version(self) -> str:
        """As the file says it."""
        return self.sections["version"]

    @property
    def digest(self) -> str:
        """Of all of it: a prompt that was changed and kept its version is told apart."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def labels(self) -> dict[str, str]:
        """Label -> what it means."""
        rows = (line.partition(":") for line in self.sections["labels"].splitlines() if line.strip())
        return {label.strip(): meaning.strip() for label, _, meaning in rows}

    def question(self, images: Sequence[SentImage], detail: str = "auto") -> list[Message]:
        """The messages that ask for labels.

        Args:
            images: in the order in which they are sent.
            detail: how closely the model is to look: low, high, auto.
        """
        return self._messages(images, detail, self._rendered("question", labels=list(self.labels.items())))

    def yes_or_no(self, images: Sequence[SentImage], label: str, detail: str = "auto") -> list[Message]:
        """The messages that ask whether one label applies."""
        asked = self._rendered("yes or no", label=label, meaning=self.labels[label])
        return self._messages(images, detail, asked)

    def _messages(self, images: Sequence[SentImage], detail: str, asked: str) -> list[Message]:
        parts: list[dict[str, Any]] = []
        if len(images) == 1 and len(images[0].levels) == 1:
            parts += [_text(self.sections["one image"]), _image(images[0], detail)]
        elif len(images) == 1:
            told = "; ".join(self.sections[level] for level in images[0].levels)
            parts += [_text(f"{self.sections['collage']} {told}."), _image(images[0], detail)]
        else:
            parts.append(_text(self.sections["several images"]))
            for number, image in enumerate(images, 1):
                parts += [_text(f"Image {number}: {self.sections[image.levels[0]]}."), _image(image, detail)]
        parts.append(_text(asked))
        return [{"role": "system", "content": self.sections["system"]}, {"role": "user", "content": parts}]

    def _rendered(self, section: str, **values: Any) -> str:
        environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=True)
        try:
            return environment.from_string(self.sections[section]).render(**values)
        except jinja2.TemplateError as error:
            raise InvalidInput(f"the prompt's section {section!r} can't be filled in: {error}") from error


def schema_of(labels: Sequence[str]) -> dict[str, Any]:
    """The JSON schema of an answer."""
    names = {"type": "array", "items": {"type": "string", "enum": list(labels)}}
    return {
        "type": "object", "properties": {"labels": names}, "required": ["labels"], "additionalProperties": False,
    }  # fmt: skip


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(image: SentImage, detail: str) -> dict[str, Any]:
    url = f"data:{MEDIA_TYPE};base64,{base64.b64encode(image.data).decode()}"
    return {"type": "image_url", "image_url": {"url": url, "detail": detail}}
