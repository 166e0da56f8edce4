"""Names of labels as models write them: the same name in other letters is known, another word for it is not.

"Doubt_Confusion" and "confusion" are written in EMOTIC's own label; "happy" for happiness, "disquiet" for disquietment
would be guesses at what was meant, and are counted as unknown, so that every model is measured by the same rule.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

SPELLINGS: Mapping[str, str] = {
    "doubt": "doubt / confusion",
    "confusion": "doubt / confusion",
    "doubtconfusion": "doubt / confusion",
    "doubt and confusion": "doubt / confusion",
    "doubt or confusion": "doubt / confusion",
    "confusion doubt": "doubt / confusion",
    "confusion and doubt": "doubt / confusion",
    "confusion or doubt": "doubt / confusion",
}
"""Plain name -> label, beside the labels' own plain names: the halves of the one label that has two, and both of them
in other ways."""
NOTHING = frozenset({"none", "no label", "no labels", "none of these", "none of them", "none of the above"})
"""Plain names that say, where they stand alone, that no label applies. "neutral" is not among them: it is an emotion of
other data sets."""


def plain(name: str) -> str:
    """A name without what is typography: case, space, hyphens, slashes, quotes, asterisks, wide letters.

    >>> plain(" **Doubt_/_Confusion**."), plain("'Ｐｅａｃｅ'"), plain("...")
    ('doubt confusion', 'peace', '')
    """
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def matched(names: Sequence[str], labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels that are named, in the order of ``labels``, and the names that are no label, in their own; each once.

    Args:
        names: as the model wrote them.
        labels: the 26, as RESULT names them.

    >>> matched(["Peace", "happy", "doubt", "peace"], ["doubt / confusion", "happiness", "peace"])
    (('doubt / confusion', 'peace'), ('happy',))
    >>> matched(["None"], ["fear"]), matched(["none", "fear"], ["fear"])
    (((), ()), (('fear',), ('none',)))
    """
    written = {name: plain(name) for name in names}
    if NOTHING.issuperset(written.values()):
        return (), ()
    known = {spelling: label for spelling, label in SPELLINGS.items() if label in labels}
    known |= {plain(label): label for label in labels}
    found = {known[word] for word in written.values() if word in known}
    unknown = dict.fromkeys(name.strip() for name, word in written.items() if word not in known)
    return tuple(label for label in labels if label in found), tuple(unknown)
