"""Files of prompts: Markdown with a heading for each section, some of which are Jinja2 templates.

Read strictly, and filled in once with everything that may come: a mistake in a file is told before the first image is
sent, not in the middle of a run that is paid for.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cocoer_client.errors import InvalidInput

BUILT_IN = Path(__file__).with_name("prompts") / "emotic-1.md"
SECTIONS = (
    "version", "system", "labels", "introduction", "caption", "collage", "context", "body", "head", "question",
    "yes or no",
)  # fmt: skip
NEEDED: Mapping[str, frozenset[str]] = {
    "caption": frozenset({"view"}),
    "collage": frozenset({"views"}),
    "question": frozenset({"labels"}),
    "yes or no": frozenset({"label"}),
}
"""Section -> what it must make use of: without it the model would not learn what it is asked."""
OFFERED: Mapping[str, frozenset[str]] = {"caption": frozenset({"number"}), "yes or no": frozenset({"meaning"})}
"""Section -> what it may make use of as well."""

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def decoded(data: bytes, name: str) -> str:
    """The text of a file, with the line ends of Unix and without a byte order mark, as shells of Windows write them.

    Args:
        data: of the file.
        name: of the file, for errors.

    Raises:
        InvalidInput: it is no UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not UTF-8: byte {error.start + 1} can't be read; save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def sections_of(text: str, name: str) -> dict[str, str]:
    """Section -> its text, without blank lines around it.

    Args:
        text: of the file. Each line that begins with ``#`` and a space is a heading.
        name: of the file, for errors.

    Raises:
        InvalidInput: a section is unknown, there twice, empty, or missing; there is text before the first.
    """
    before, *parts = re.split(r"^#(?:[ \t]+(.*))?$", text, flags=re.MULTILINE)
    if before.strip():
        raise InvalidInput(f"{name}: there is text before the first heading; nothing would read it")
    sections: dict[str, str] = {}
    for heading, body in zip(parts[::2], parts[1::2]):
        section = (heading or "").strip()
        if section not in SECTIONS:
            known = ", ".join(SECTIONS)
            raise InvalidInput(f'{name}: unknown section "{section}"; lines that begin with "# " are headings: {known}')
        if section in sections:
            raise InvalidInput(f'{name}: section "{section}" is there twice')
        if not body.strip():
            raise InvalidInput(f'{name}: section "{section}" is empty')
        sections[section] = body.strip("\n").rstrip()
    missing = [f'"# {section}"' for section in SECTIONS if section not in sections]
    if missing:
        raise InvalidInput(f"{name} has no section {', '.join(missing)}; --show-prompt prints a whole prompt")
    if "\n" in sections["version"]:
        raise InvalidInput(f'{name}: section "version" must be one line')
    return sections


def labels_of(section: str, name: str) -> dict[str, str]:
    """Label -> what it means; lines are ``- LABEL: MEANING``.

    Args:
        section: the text of section ``labels``.
        name: of the file, for errors.

    Raises:
        InvalidInput: a line is something else, or a label is there twice.

    >>> labels_of("- fear: being afraid\\n- pain: it hurts", "my.md")
    {'fear': 'being afraid', 'pain': 'it hurts'}
    """
    labels: dict[str, str] = {}
    for line in filter(None, map(str.strip, section.splitlines())):
        match = re.fullmatch(r"-\s+([^:]*[^:\s])\s*:\s*(\S.*)", line)
        if match is None:
            raise InvalidInput(f'{name}: section "labels": each line must be "- LABEL: MEANING", not "{line[:80]}"')
        label, meaning = match.groups()
        if label in labels:
            raise InvalidInput(f'{name}: section "labels": "{label}" is there twice')
        labels[label] = meaning
    return labels


def check_templates(sections: Mapping[str, str], labels: Mapping[str, str], name: str) -> None:
    """Fill in every template with everything that may come.

    Raises:
        InvalidInput: one is not Jinja2, uses a name that it isn't given, or does without one that it needs.
    """
    for section in ("caption", "collage", "question", "yes or no"):
        _check_names(section, sections[section], name)
    views = [sections[level] for level in ("context", "body", "head")]
    for number, view in enumerate(views, 1):
        rendered("caption", sections, name, number=number, view=view)
    rendered("collage", sections, name, views=views)
    rendered("question", sections, name, labels=list(labels.items()))
    for label, meaning in labels.items():
        rendered("yes or no", sections, name, label=label, meaning=meaning)


def _check_names(section: str, text: str, name: str) -> None:
    needed = NEEDED[section]
    offered = needed | OFFERED.get(section, frozenset())
    try:
        used = jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(text)) - set(_ENVIRONMENT.globals)
    except Exception as error:  # of Jinja2's parser, which also fails by RecursionError
        raise _failure(section, name, error) from error
    if used - offered:
        unknown, known = ", ".join(sorted(used - offered)), ", ".join(sorted(offered))
        raise InvalidInput(f'{name}: section "{section}" uses {unknown}, and may use {known} only')
    if needed - used:
        raise InvalidInput(f'{name}: section "{section}" must use {{{{ {", ".join(needed)} }}}}')


def rendered(section: str, sections: Mapping[str, str], name: str, **values: Any) -> str:
    """A section, filled in; without blank lines around it.

    Args:
        section: the template.
        sections: all of the file.
        name: of the file, for errors.
        values: what it may use.

    Raises:
        InvalidInput: it can't be filled in, or nothing is left of it.
    """
    try:
        text = _template(sections[section]).render(**values).strip()
    except Exception as error:  # whatever an expression in it does: divide by zero, call itself, take all memory
        raise _failure(section, name, error) from error
    if not text:
        raise InvalidInput(f'{name}: section "{section}" comes out empty')
    return text


@functools.lru_cache(maxsize=64)
def _template(text: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(text)


def _failure(section: str, name: str, error: Exception) -> InvalidInput:
    told = " ".join(str(error).split())[:300]
    if isinstance(error, jinja2.TemplateSyntaxError):
        told = f"line {error.lineno} of it: {told}"
    elif not isinstance(error, jinja2.TemplateError):
        told = f"{type(error).__name__}: {told}".removesuffix(": ")
    return InvalidInput(f'{name}: section "{section}" can\'t be filled in: {told}')
