"""Work in several threads, results in the order of the work."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
_thread = threading.local()


def is_ending() -> bool:
    """Whether nobody waits for what this thread of ``in_order``'s does: what can wait for ever looks now and then."""
    ending: threading.Event | None = getattr(_thread, "ending", None)
    return ending is not None and ending.is_set()


def _enter(ending: threading.Event) -> None:
    _thread.ending = ending


def in_order(work: Callable[[Item], Outcome], items: Iterable[Item], workers: int, ahead: int = 2) -> Iterator[Outcome]:
    """``map(work, items)`` in threads, with at most ``ahead * workers`` items begun and not handed out.

    Args:
        work: may raise: then so does the iteration, at this item's turn, and what has not begun is dropped.
        items: taken from only as there is room.
        workers: threads.
        ahead: how much finished work may wait for the one before it.

    >>> list(in_order(abs, [-3, 1, -2], workers=2))
    [3, 1, 2]
    """
    ending = threading.Event()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="cocoer", initializer=_enter, initargs=(ending,))
    waiting: deque[Future[Outcome]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        ending.set()
        pool.shutdown(wait=True, cancel_futures=True)
