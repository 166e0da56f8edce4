"""Prompts: what is said to a model about a person's images, from a file with a version."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cocoer_client.errors import InvalidInput
from cocoer_client.vlm.crops import MEDIA_TYPE, SentImage
from cocoer_client.vlm.prompt_file import BUILT_IN, check_templates, decoded, labels_of, rendered, sections_of

Message = dict[str, Any]
"""Of the interface: ``role`` and ``content``."""


@dataclass(frozen=True)
class Prompt:
    """A prompt. However many images there are, the same is said: modes differ in nothing but their images.

    Args:
        name: of the file, as errors call it.
        data: the file.
        sections: heading -> text, some of them Jinja2.
        labels: label -> what it means, in the order in which they are told.
    """

    name: str
    data: bytes = field(repr=False)
    sections: Mapping[str, str] = field(repr=False)
    labels: Mapping[str, str] = field(repr=False)

    @classmethod
    def load(cls, path: Path | None) -> Prompt:
        """Read a file; None: the built-in one.

        Raises:
            InvalidInput: it can't be read, or is no prompt; names the file and the section.
        """
        path = path or BUILT_IN
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InvalidInput(f"can't read the prompt {path}: {error.strerror or error}") from error
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: bytes, name: str) -> Prompt:
        """Of a file's content; raises as ``load``."""
        sections = sections_of(decoded(data, name), name)
        labels = labels_of(sections["labels"], name)
        check_templates(sections, labels, name)
        return cls(name, data, sections, labels)

    @property
    def version(self) -> str:
        """As the file says it."""
        return self.sections["version"]

    @property
    def text(self) -> str:
        """Of the file, with the line ends of Unix."""
        return decoded(self.data, self.name)

    @property
    def digest(self) -> str:
        """Of the text, 16 hexadecimal digits: a prompt that was changed and kept its version is told apart."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def show(self) -> None:
        """Write the file to standard output, byte for byte: what is kept of it is the same prompt."""
        sys.stdout.flush()
        sys.stdout.buffer.write(self.data)
        sys.stdout.buffer.flush()

    def check_labels(self, labels: Iterable[str]) -> None:
        """Raise ``InvalidInput`` unless the prompt's labels are these, in any order.

        Args:
            labels: as RESULT names them: others would never be found in it.
        """
        served = tuple(labels)
        lacking = ", ".join(label for label in served if label not in self.labels)
        foreign = ", ".join(label for label in self.labels if label not in served)
        problems = [f"lacks {lacking}"] if lacking else []
        problems += [f"has {foreign}, which the server doesn't know"] if foreign else []
        if problems:
            told = "; it ".join(problems)
            raise InvalidInput(f'{self.name}: section "labels" must hold the server\'s labels; it {told}')

    def question(self, images: Sequence[SentImage], detail: str = "auto") -> list[Message]:
        """The messages that ask for labels.

        Args:
            images: in the order in which they are sent; one that shows several levels is a collage, and the only one.
            detail: how closely the model is to look: low, high, auto.
        """
        return self._messages(images, detail, self._rendered("question", labels=list(self.labels.items())))

    def yes_or_no(self, images: Sequence[SentImage], label: str, detail: str = "auto") -> list[Message]:
        """The messages that ask whether one label applies; ``answers.yes_probability`` reads what comes.

        Raises:
            InvalidInput: the prompt has no such label.
        """
        if label not in self.labels:
            raise InvalidInput(f'{self.name}: section "labels" has no "{label}"')
        asked = self._rendered("yes or no", label=label, meaning=self.labels[label])
        return self._messages(images, detail, asked)

    def _messages(self, images: Sequence[SentImage], detail: str, asked: str) -> list[Message]:
        parts: list[dict[str, Any]] = []
        if len(images[0].levels) > 1:
            views = [self.sections[level] for level in images[0].levels]
            parts += [_text(self._rendered("collage", views=views)), _image(images[0], detail)]
        else:
            parts.append(_text(self.sections["introduction"]))
            for number, image in enumerate(images, 1):
                caption = self._rendered("caption", number=number, view=self.sections[image.levels[0]])
                parts += [_text(caption), _image(image, detail)]
        parts.append(_text(asked))
        return [{"role": "system", "content": self.sections["system"]}, {"role": "user", "content": parts}]

    def _rendered(self, section: str, **values: Any) -> str:
        return rendered(section, self.sections, self.name, **values)


def as_read(messages: Sequence[Message]) -> str:
    """Messages as a reader sees them: the words, with ``[image]`` where there is one.

    >>> print(as_read([{"role": "user", "content": [{"type": "text", "text": "Image 1: it."}, {"type": "image_url"}]}]))
    user:
    Image 1: it.
    [image]
    """
    blocks = []
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        lines = [part["text"] if part["type"] == "text" else "[image]" for part in parts]
        blocks.append("\n".join([f"{message['role']}:", *lines]))
    return "\n\n".join(blocks)


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
