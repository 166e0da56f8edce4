"""The ways in which a person is asked about: which of the three levels are sent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

from cocoer_client.errors import ServerError
from cocoer_client.protocol import LEVELS, Level

Mode = Literal["single", "multi", "enhanced", "exclude_random", "exclude_last"]
MODES: tuple[Mode, ...] = get_args(Mode)
USUAL: tuple[Mode, ...] = ("single", "multi", "enhanced")
"""Those of the paper; the others are controls: taking away a level may help whichever it is."""
TOLD: tuple[Level, ...] = ("context", "body", "head")
"""The levels as they are told: from the whole to the part."""


def excluded_level(mode: Mode, order: Sequence[str], name: str, seed: int = 0) -> Level | None:
    """The level that a mode leaves out; None: it sends all, or the whole image alone.

    Args:
        mode: ``enhanced`` leaves out the first of ``order``, ``exclude_last`` the last, ``exclude_random`` any of the
            three with the same chance, by ``name`` and ``seed`` alone: a run that is resumed leaves out the same.
        order: RESULT's ``emo_process``: ``head-level`` and so on, in the order of being excluded.
        name: what tells this person from all others.
        seed: another number is another draw of ``exclude_random``, of all persons.

    Raises:
        ServerError: ``order`` is needed, and is not the three levels.

    >>> excluded_level("enhanced", ["body-level", "head-level", "context-level"], "")
    'body'
    """
    if mode == "enhanced":
        return exclusion_order(order)[0]
    if mode == "exclude_last":
        return exclusion_order(order)[-1]
    if mode == "exclude_random":
        drawn = hashlib.sha256(f"{seed} {name}".encode(errors="surrogateescape")).digest()
        return LEVELS[int.from_bytes(drawn[:8], "big") % len(LEVELS)]
    return None


def levels_of(mode: Mode, order: Sequence[str], name: str, seed: int = 0) -> tuple[Level, ...]:
    """The levels whose images are sent, in the order of ``TOLD``; arguments and errors as of ``excluded_level``.

    >>> levels_of("enhanced", ["body-level", "head-level", "context-level"], "")
    ('context', 'head')
    """
    if mode == "single":
        return ("context",)
    without = excluded_level(mode, order, name, seed)
    return tuple(level for level in TOLD if level != without)


def exclusion_order(order: Sequence[str]) -> tuple[Level, ...]:
    """RESULT's ``emo_process`` as levels.

    Raises:
        ServerError: it names others than the three, or one of them twice. To leave out a level by a guess would make
            the comparison of the modes worthless.

    >>> exclusion_order(["body-level", "head-level", "context-level"])
    ('body', 'head', 'context')
    """
    levels = tuple(level for entry in order for level in LEVELS if entry == f"{level}-level")
    if len(order) != len(LEVELS) or set(levels) != set(LEVELS):
        known = ", ".join(f"{level}-level" for level in LEVELS)
        raise ServerError(
            f"emo_process is {list(order)}, which is not {known} in some order; do server and client belong together?"
        )
    return levels
