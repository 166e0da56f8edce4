"""The ways in which a person is asked about: which of the three levels are sent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

from cocoer_client.protocol import LEVELS, Level

Mode = Literal["single", "multi", "enhanced", "exclude_random", "exclude_last"]
MODES: tuple[Mode, ...] = get_args(Mode)
USUAL: tuple[Mode, ...] = ("single", "multi", "enhanced")
"""Those of the paper; the others are controls: taking away a level may help whichever it is."""


def excluded_level(mode: Mode, order: Sequence[str], name: str) -> Level | None:
    """The level that a mode leaves out; None: it sends all, or the whole image alone.

    Args:
        mode: ``enhanced`` leaves out the first of ``order``, ``exclude_last`` the last, ``exclude_random`` one that
            depends on ``name`` alone, so that a run that is resumed leaves out the same.
        order: RESULT's ``emo_process``: ``head-level`` and so on, in the order of being excluded.
        name: of the image and the person, as the run knows them.

    >>> excluded_level("enhanced", ["body-level", "head-level", "context-level"], "")
    'body'
    """
    levels = [level for entry in order for level in LEVELS if entry == f"{level}-level"]
    if mode == "enhanced":
        return levels[0]
    if mode == "exclude_last":
        return levels[-1]
    if mode == "exclude_random":
        return LEVELS[int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8], "big") % 3]
    return None


def levels_of(mode: Mode, order: Sequence[str], name: str) -> tuple[Level, ...]:
    """The levels whose images are sent, as they are told: from the whole to the part.

    >>> levels_of("enhanced", ["body-level", "head-level", "context-level"], "")
    ('context', 'head')
    """
    if mode == "single":
        return ("context",)
    without = excluded_level(mode, order, name)
    return tuple(level for level in TOLD if level != without)


TOLD: tuple[Level, ...] = ("context", "body", "head")
