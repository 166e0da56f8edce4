"""What a model's answer says: labels, or why there are none."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["labels", "unknown_label", "refused", "unparseable", "cut_off", "failed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""``labels``: well-formed, perhaps none; ``unknown_label``: with names that are no label, beside which those that are
count; ``refused``: it won't say; ``unparseable``: it said something else; ``cut_off``: it came to its limit of tokens;
``failed``: there is no answer, for a fault of the network or the server."""


@dataclass(frozen=True)
class Answer:
    """Args:
    kind: one of ``KINDS``.
    labels: in the order of the 26, each once.
    unknown: names that are no label, as the model wrote them.
    text: the answer as it came; of ``failed``, what went wrong.
    """

    kind: Kind
    labels: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    text: str = ""

    @property
    def is_read(self) -> bool:
        """Whether it has labels, or says that there are none."""
        return self.kind in ("labels", "unknown_label")


def read_answer(text: str, refusal: str, finish_reason: str, labels: Sequence[str]) -> Answer:
    """Read an answer.

    Args:
        text: what the model wrote.
        refusal: what the interface says in its own field of a refusal; empty: nothing.
        finish_reason: ``stop``, ``length``, ``content_filter``, ...
        labels: the 26, as RESULT names them.
    """
    if refusal or finish_reason == "content_filter":
        return Answer("refused", text=refusal or text)
    try:
        names = json.loads(re.sub(r"^```(?:json)?|```$", "", text.strip()).strip())["labels"]
        given = [str(name).strip().lower() for name in names]
    except (ValueError, TypeError, KeyError):
        return Answer("cut_off" if finish_reason == "length" else "unparseable", text=text)
    unknown = tuple(name for name in given if name not in labels)
    found = tuple(label for label in labels if label in given)
    return Answer("unknown_label" if unknown else "labels", found, unknown, text)
