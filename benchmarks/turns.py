"""Measuring several ways in turns, so that a machine whose speed varies varies for all of them; and what the turns say.

Every other turn goes backwards (A B C, C B A, ...): a machine that slows down steadily favours none of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Path = tuple[str, ...]
"""Where a way's results stand in the report."""
REQUESTS_BEYOND = 5
"""A percentile is shown if so many requests lie beyond it: p95 of 100, p99 of 500."""


def take_turns(ways: Mapping[Path, Callable[[], Any]], turns: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure every way once in each turn.

    Args:
        ways: measures a way, once.
        turns: how many.
        say: is told of each turn.

    Returns:
        what they returned, by the parts of their paths, as lists in the order of the turns.

    >>> take_turns({("a", "x"): lambda: 1, ("a", "y"): lambda: 2, ("b",): lambda: 3}, 2, lambda text: None)
    {'a': {'x': [1, 1], 'y': [2, 2]}, 'b': [3, 3]}
    """
    found: dict[Path, list[Any]] = {path: [] for path in ways}
    for turn in range(turns):
        say(f"turn {turn + 1} of {turns}")
        for path in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
            found[path].append(ways[path]())
    nested: dict[str, Any] = {}
    for path, results in found.items():
        place = nested
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = results
    return nested


def verdict(values: Sequence[float], sign: str, target: float) -> str:
    """What is said of a target: met or missed if so in every turn.

    >>> verdict([3, 4], ">=", 3), verdict([3, 4], ">=", 5), verdict([3, 4], ">=", 3.5), verdict([], "<=", 1)
    ('met', 'missed', 'within noise', 'not measured')
    """
    met = [value >= target if sign == ">=" else value <= target for value in values]
    if not met:
        return "not measured"
    if all(met):
        return "met"
    return "within noise" if any(met) else "missed"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range, or what there is of them.

    >>> spread([3, 1, 2], 1), spread([1.5]), spread([])
    ('2.0 (1.0 to 3.0)', '1.50', '')
    """
    if not values:
        return ""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def percentile(times: Sequence[float], percent: int) -> float | None:
    """The time that so many percent do not exceed; None where too few exceed it for it to be more than a maximum.

    >>> percentile(range(1, 501), 99), percentile(range(1, 500), 99)
    (495, None)
    """
    index = -(-len(times) * percent // 100)
    return sorted(times)[index - 1] if len(times) - index >= REQUESTS_BEYOND else None
