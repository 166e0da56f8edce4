"""Work in several threads, results in the order of the work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from cocoer_client.producer import Producer, Taken

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
_thread = threading.local()


def is_ending() -> bool:
    """Whether nobody waits for what this thread of ``in_order``'s does: what can wait for ever looks now and then."""
    ending: threading.Event | None = getattr(_thread, "ending", None)
    return ending is not None and ending.is_set()


def enter(ending: threading.Event) -> None:
    """First in each of such threads: what ``is_ending`` looks at there."""
    _thread.ending = ending


def in_order(
    work: Callable[[Item], Outcome], items: Iterable[Item], workers: int, ahead: int = 2
) -> Generator[Outcome, None, None]:
    """``map(work, items)`` in threads, with at most ``ahead * workers`` items begun and not handed out.

    Each outcome is handed out as soon as it is there and those before it were: for one item, before there is a second.

    Args:
        work: may raise: then so does the iteration, at this item's turn, and what has not begun is dropped.
        items: taken from only as there is room, in a thread of its own. It may wait for as long as it likes, for a
            camera, or for the outcome of an item before. What it raises is raised after the outcomes before.
        workers: threads.
        ahead: how much finished work may wait for the one before it.

    >>> list(in_order(abs, [-3, 1, -2], workers=2))
    [3, 1, 2]
    """
    ending = threading.Event()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="cocoer", initializer=enter, initargs=(ending,))
    turns: SimpleQueue[Future[Outcome] | None] = SimpleQueue()

    def begin(taken: Taken[Item]) -> None:
        for item in taken.items:
            turns.put(pool.submit(work, item))
        if taken.error is not None:
            failed: Future[Outcome] = Future()
            failed.set_exception(taken.error)
            turns.put(failed)
        elif not taken.items:
            turns.put(None)

    producer = Producer(items, begin, room=ahead * workers)
    try:
        while (turn := turns.get()) is not None:
            outcome = turn.result()
            producer.more()
            yield outcome
    finally:
        ending.set()
        producer.stop()
        pool.shutdown(wait=True, cancel_futures=True)
