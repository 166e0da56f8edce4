"""Work in two stages, each several at once, results in the order of the work and as soon as they are there."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from cocoer_client.ordered import enter

Item = TypeVar("Item")
Middle = TypeVar("Middle")
Last = TypeVar("Last")
AHEAD = 2
"""Times as many items as there are threads may wait for the one before them, in each stage."""


def in_two_stages(
    items: Iterable[Item],
    first: Callable[[Item], Middle],
    between: Callable[[Middle], Iterable[Middle]],
    second: Callable[[Middle], Last],
    first_workers: int,
    second_workers: int,
    stopped: threading.Event | None = None,
) -> Generator[Last, None, None]:
    """Each item through ``first``, ``between`` and ``second``.

    What is slow in one stage takes no thread of the other, and what waits is bounded: as long as ``second`` does not
    keep up, ``first`` gets nothing new.

    Args:
        items: taken from one by one, in the caller's thread, only as there is room.
        first: in a thread of its own; may raise, then so does the iteration, at this item's turn.
        between: in the caller's thread and in the order of the items; gives what goes on, which may be more or
            fewer: what it has held back before, for instance.
        second: in a thread of its own; as ``first``.
        first_workers, second_workers: threads.
        stopped: set when no more results are wanted, for those who wait in a thread.

    >>> list(in_two_stages([-3, 1, -2], abs, lambda x: [x], str, 2, 2))
    ['3', '1', '2']
    """
    waiting: deque[Future[Middle]] = deque()
    ending: deque[Future[Last]] = deque()
    left: Iterator[Item] | None = iter(items)
    stopped = stopped or threading.Event()
    pools = [
        ThreadPoolExecutor(workers, f"cocoer-{name}", enter, (stopped,))
        for name, workers in (("ask", first_workers), ("draw", second_workers))
    ]
    try:
        while left is not None or waiting or ending:
            if ending and ending[0].done():
                yield ending.popleft().result()
            elif waiting and waiting[0].done() and len(ending) < AHEAD * second_workers:
                ending.extend(pools[1].submit(second, one) for one in between(waiting.popleft().result()))
            elif left is not None and len(waiting) < AHEAD * first_workers:
                try:
                    waiting.append(pools[0].submit(first, next(left)))
                except StopIteration:
                    left = None
            else:
                heads: list[Future[Any]] = [queue[0] for queue in (ending, waiting) if queue and not queue[0].done()]
                wait(heads, return_when=FIRST_COMPLETED)
    finally:
        stopped.set()
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.shutdown(wait=True)
