"""Where in a model's text its answer is: JSON amid prose and fences, after what it thought, or a refusal in words.

All of it takes time in proportion to the text, whatever that holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

REFUSALS = (
    "i can't", "i cannot", "i can not", "i could not", "i couldn't", "i am unable", "i'm unable", "i am not able",
    "i'm not able", "i won't", "i will not", "i must decline", "i have to decline", "i'm going to have to decline",
    "i must respectfully decline", "i'm not comfortable", "i am not comfortable", "i don't feel comfortable",
    "i do not feel comfortable", "i'm sorry", "i am sorry", "i'm very sorry", "i'm really sorry", "sorry, but",
    "sorry, i", "i apologize", "i apologise", "my apologies", "apologies, but", "unfortunately, i can",
    "unfortunately, i'm", "unfortunately, i am", "as an ai, i can't", "as an ai, i cannot", "as an ai, i'm unable",
    "as an ai, i am unable", "as an ai language model, i can't", "as an ai language model, i cannot",
    "as an ai language model, i'm unable", "as an ai language model, i am unable",
)  # fmt: skip
"""How refusals in prose begin, in small letters. A heuristic: a model may decline in other words, and be counted as
``unparseable``, or apologise and go on without JSON. The raw texts are kept, so that anybody can count anew."""

_THOUGHT = re.compile("<(/?)(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_BEGINNING = re.compile(r'\{(?=\s*["}])')  # of an object of JSON; "{{" and "{happy, sad}" are none
_WITHIN = re.compile(r'"[^"\\\n]*(?:\\.[^"\\\n]*)*("?)|[{}]')


def without_thoughts(text: str) -> str:
    """What stands outside of ``<think>``: drafts in it are no answer, finished or not.

    >>> [without_thoughts(text) for text in ("<think>fear?</think> peace", "fear?</think>peace", "<think>fear")]
    [' peace', 'peace', '']
    """
    marks = list(_THOUGHT.finditer(text))
    start = max((mark.end() for mark in marks if mark[1]), default=0)
    end = min((mark.start() for mark in marks if not mark[1] and mark.start() >= start), default=len(text))
    return text[start:end]


def named_in(text: str) -> list[str] | None:
    """The names that an answer lists, as written; None: the text holds no answer.

    An answer is an object of JSON whose ``labels`` is a list of strings: the last whole one, wherever it stands, unless
    it is within another. Else a bare list of strings, if it is the whole text or the whole of a fenced block. Other
    keys, scores or booleans by label, and lists that hold anything else than strings are none: what they mean would be
    a guess. Nor is the form that the prompt shows, given back with its dots.

    >>> named_in('Sure! {"labels": ["fear"]} No: {"labels": ["peace", "esteem"]}. The form was {"labels": ["..."]}')
    ['peace', 'esteem']
    >>> named_in('["fear"]'), named_in('Not ["fear"]'), named_in('{"emotions": ["fear"]}'), named_in('{"labels": {}}')
    (['fear'], None, None, None)
    """
    for start, end in reversed(_objects(text)):
        value = _parsed(text[start:end])
        if isinstance(value, dict) and (names := _names(value.get("labels"))) is not None:
            return names
    for piece in reversed([text, *text.split("```")[1::2]]):
        if (names := _names(_parsed(_unfenced(piece)))) is not None:
            return names
    return None


def is_refusal(text: str) -> bool:
    """Whether a text without an answer begins as refusals do; see ``REFUSALS``.

    >>> is_refusal("I’m sorry, but I can’t help with that."), is_refusal("The person is sorry.")
    (True, False)
    """
    beginning = text.lstrip(" \t\r\n\"'*_#>").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return " ".join(beginning.lower().split()).startswith(REFUSALS)


def _objects(text: str) -> list[tuple[int, int]]:
    """Start and end of what may be an object of JSON and is within no other, in their order.

    One pass: braces are counted, those in strings are not. What begins like an object and isn't one, in prose, either
    has no end, then those within it count, or is thrown out by a string that ends with its line.
    """
    found: list[tuple[int, int]] = []
    for start, end in _closed(text):
        while found and found[-1][0] > start:
            found.pop()
        found.append((start, end))
    return found


def _closed(text: str) -> Iterator[tuple[int, int]]:
    open_: list[int] = []
    position = 0
    while match := (_WITHIN if open_ else _BEGINNING).search(text, position):
        position = match.end()
        if match[0] == "{":
            open_.append(match.start())
        elif match[0] == "}":
            yield open_.pop(), position
        elif not match[1]:  # no string of JSON: none of these is an object
            open_.clear()


def _parsed(text: str) -> Any:
    """Of JSON, strictly; None: it is none."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _names(value: Any) -> list[str] | None:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return None
    if value and not any(name.strip(" .\N{HORIZONTAL ELLIPSIS}") for name in value):
        return None  # the form, not filled in
    return value


def _unfenced(piece: str) -> str:
    """
    >>> _unfenced("json\\n[]\\n"), _unfenced(" [] ")
    ('[]', '[]')
    """
    piece = piece.strip()
    return piece[4:].strip() if piece[:4].lower() == "json" else piece
