"""Tests wait for a state, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 600.0
"""Seconds, of a machine that has much else to do; a test that passes does not wait for them."""


def until(
    condition: Callable[[], T], told: Callable[[], str] = str, pause: float = 0.05, patience: float = PATIENCE
) -> T:
    """The first true value of a condition.

    Args:
        condition: asked again and again; it may fail by asserting.
        told: what to say when patience is over.
        pause: seconds between two times.
        patience: seconds in all.
    """
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {patience:g} s: {condition} {told()}"
        time.sleep(pause)
    return value
