"""The documentation, taken apart: blocks of code, what they are said to print, links, anchors and names."""

from __future__ import annotations

import doctest
import json
import re
from dataclasses import dataclass

from cocoer.labels import EMOTIC_LABELS
from tests.builds import PROJECT

GUIDES = ("README.md", *sorted(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md")))
"""Pages whose blocks are run."""
FOLDERS = ("benchmarks", "checkpoints", "client", "examples")
PAGES = (*GUIDES, "CONTRIBUTING.md", "CHANGELOG.md", *(f"{folder}/README.md" for folder in FOLDERS))

RUN = ("bash", "python")
LANGUAGES = (*RUN, "json", "console", "bibtex", "text", "")
"""``text`` is what the block before it prints. ``console`` is not run: it needs a GPU, Docker, a cluster or the
network, or takes long. Blocks without a language are for people."""

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code; ``shown`` is what the page says that it prints, None if it does not say."""

    page: str
    language: str
    text: str
    shown: str | None = None

    @property
    def name(self) -> str:
        """Its page and first line, for people and for tables of checks."""
        return f"{self.page}: {self.text.partition(chr(10))[0]}"


def read(page: str) -> str:
    return (PROJECT / page).read_text()


SCHEMA = json.loads(read("docs/result.schema.json"))
"""RESULT's JSON Schema."""


def blocks(page: str) -> list[Block]:
    """The blocks of a page in their order, without those of ``text``, which are what the block before prints.

    Raises:
        ValueError: a ``text`` block does not follow a block that is run.
    """
    found: list[Block] = []
    end = 0
    for match in _BLOCK.finditer(read(page)):
        language, text = match.groups()
        if language == "text":
            if read(page)[end : match.start()].strip() or not found or found[-1].language not in RUN:
                raise ValueError(f"{page}: what prints this?\n{text}")
            found[-1] = Block(page, found[-1].language, found[-1].text, text)
        else:
            found.append(Block(page, language, text))
        end = match.end()
    return found


def prose(page: str) -> str:
    """A page without its blocks."""
    return _BLOCK.sub("", read(page))


def code_spans(page: str) -> list[str]:
    """What stands between single backticks in a page's prose; a span may run over the end of a line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def anchors(page: str) -> set[str]:
    """What ``#anchor`` can name in a page: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: str) -> list[str]:
    """Targets of a page's links and images."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page)) + re.findall(r'<img src="([^"]+)"', prose(page))


_LABEL = "|".join(sorted(map(re.escape, (*EMOTIC_LABELS, "no label")), key=len, reverse=True))
_NORMAL = (
    (re.compile(rf"\b(?:{_LABEL})\b"), "LABEL"),
    (re.compile(r"\b(?:head|body|context)-level\b"), "LEVEL"),
    (re.compile(r"\d+\.\d+(?:e-?\d+)?|\b\d+(?= s\b)"), "NUMBER"),
    (re.compile(r"'LABEL'(?:, 'LABEL')*,?"), "LABELS"),
    (re.compile(r"LABEL NUMBER(?:,\s+LABEL NUMBER)*(?:, \.\.\.)?"), "LABELS"),
    (re.compile(r"\(\)|\(LABELS\)|\[\]|\[LABELS\]"), "LABELS"),
    (re.compile(r"^(  (?:final|V-I|head|body|context) +)-$", re.MULTILINE), r"\1LABELS"),
)


def normal(text: str) -> str:
    """Without what depends on weights and machine: which labels and how many, the levels' order, decimals, seconds.

    >>> normal("1 ('anger', 'doubt / confusion') 0.25 head-level > body-level")
    '1 LABELS NUMBER LEVEL > LEVEL'
    >>> normal("300.png  1 person") == normal("400.png  2 persons")
    False
    """
    for pattern, word in _NORMAL:
        text = pattern.sub(word, text)
    return text


def difference(shown: str, printed: str) -> str:
    """How what was printed differs from what a page shows, as a diff; empty where it does not. ``...`` is anything."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.REPORT_NDIFF
    example, got = doctest.Example("", normal(shown)), normal(printed)
    checker = doctest.OutputChecker()
    if checker.check_output(example.want, got, flags):
        return ""
    return checker.output_difference(example, got, flags)
