"""Ctrl-C and requests to terminate: raised where nothing is left half by them."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]


class Terminated(KeyboardInterrupt):
    """Another program, not the keyboard, wants an end of it."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Around a run: a request to terminate is raised as ``Terminated``, so that files are completed or removed."""

    def terminate(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def waiting(tell: Callable[[], object]) -> Iterator[None]:
    """Around what waits, when it is interrupted, for what is under way: a second signal ends the process at once.

    Args:
        tell: says so, at the first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if seen:
            os._exit(128 + number)  # threads wait for answers, for minutes perhaps
        seen.append(number)
        tell()
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    with _instead_of(_handlers(), handle):
        yield


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """Around what is to be done whole or not at all: a signal waits for its end; a second one does not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[tuple[int, FrameType | None]] = []

    def wait(number: int, frame: FrameType | None) -> None:
        if held:
            deliver(number, frame)
        held.append((number, frame))

    def deliver(number: int, frame: FrameType | None) -> None:
        before[number](number, frame)

    before = _handlers()
    with _instead_of(before, wait):
        yield
    if held:
        deliver(*held[0])


def _handlers() -> dict[int, Handler]:
    """Of Ctrl-C and termination, what Python handles: what is ignored, or ends the process, does so still."""
    handlers = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    return {number: handler for number, handler in handlers.items() if callable(handler)}


@contextlib.contextmanager
def _instead_of(before: Mapping[int, Handler], handler: Handler) -> Iterator[None]:
    """Handle these signals otherwise, for a block."""
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)
