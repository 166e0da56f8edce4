"""Sharing small pieces of work among threads, of which the caller's is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Threads:
    """Threads that decode and resize, which they do without Python's lock.

    Handing a piece of work to a thread takes as long as cutting out a small head. So the caller works too, each thread
    is asked once and then takes what is next, and a single piece is never handed on.

    Args:
        count: of threads that work at once, the caller's among them; None: one for each core, four at most, for more
            than an image has crops would only wait.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or min(4, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(max(1, self.count - 1), thread_name_prefix="pixels")

    def map(self, step: Callable[[Item], Result], items: Iterable[Item]) -> Sequence[Result]:
        """``[step(item) for item in items]``, side by side. What a step raises is raised when all threads are done.

        >>> Threads(2).map(str, [1, 2, 3])
        ['1', '2', '3']
        """
        waiting = list(items)
        done: dict[int, Result] = {}
        work = iter(enumerate(waiting))  # a list's: next() of it is one step for Python's lock

        def take() -> None:
            for index, item in work:
                done[index] = step(item)

        others = [self._pool.submit(take) for _ in range(min(self.count, len(waiting)) - 1)]
        try:
            take()
        finally:
            for other in others:
                other.exception()  # wait: it may still look at what the caller will drop
        for other in others:
            other.result()
        return [done[index] for index in range(len(waiting))]
