"""What a model's answer says: labels, or why there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from cocoer_client.vlm.answer_text import is_refusal, named_in, without_thoughts
from cocoer_client.vlm.spellings import matched, plain

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
    unknown: names that are no label, as the model wrote them, each once.
    text: the answer as it came; of ``refused``, the interface's own word for it where there is one; of ``failed``,
        what went wrong.
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
    """Read an answer. What counts as one, ``answer_text.named_in`` says; which names are labels, ``spellings``.

    An answer that is complete is read, whatever stands around it: an apology before it, the limit of tokens after it.
    Only where the interface itself says that it was refused, or filtered, nothing is read.

    Args:
        text: what the model wrote.
        refusal: what the interface says in its own field of a refusal; empty: nothing.
        finish_reason: ``stop``, ``length``, ``content_filter``, ...
        labels: the 26, as RESULT names them.
    """
    text = _encodable(text)
    if refusal or finish_reason == "content_filter":
        return Answer("refused", text=_encodable(refusal) or text)
    said = without_thoughts(text)
    names = named_in(said)
    if names is not None:
        found, unknown = matched([_encodable(name) for name in names], labels)
        return Answer("unknown_label" if unknown else "labels", found, unknown, text)
    if is_refusal(said):
        return Answer("refused", text=text)
    return Answer("cut_off" if finish_reason == "length" else "unparseable", text=text)


def yes_probability(first_token: Mapping[str, float]) -> float | None:
    """Of "yes" against "no", from the candidates of an answer's first token; None: neither is among them.

    Where one of both is not among the candidates, its probability is taken for 0: it is less than theirs.

    Args:
        first_token: token -> natural logarithm of its probability. All ways to write the two words are summed.

    >>> yes_probability({"Yes": math.log(0.6), " yes": math.log(0.1), "No": math.log(0.1), "Maybe": math.log(0.2)})
    0.875
    >>> yes_probability({"No.": -0.1}), yes_probability({"Maybe": -0.1})
    (0.0, None)
    """
    # Some servers give tokens as their vocabularies have them, with a mark for the space.
    words = ((plain(token.lstrip("\N{LOWER ONE EIGHTH BLOCK}Ġ")), value) for token, value in first_token.items())
    told = [(word, value) for word, value in words if word in ("yes", "no") and -math.inf < value < math.inf]
    if not told:
        return None
    highest = max(value for _, value in told)  # kept out of the exponents, which would all be 0 at -9999
    yes, no = (math.fsum(math.exp(value - highest) for word, value in told if word == which) for which in ("yes", "no"))
    return yes / (yes + no)


def _encodable(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can write and no file takes."""
    return text.encode("utf-8", "replace").decode()
