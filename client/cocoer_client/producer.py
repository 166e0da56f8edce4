"""Items of an iterable taken in a thread of their own: where it waits for the next one, nobody else does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
GRACE = 1.0
"""Seconds that ``stop`` waits for the iterable, which may be waiting for a camera for ever."""


@dataclass(frozen=True)
class Taken(Generic[Item]):
    """The next item; or the end, or what the iterable has raised."""

    items: tuple[Item, ...] = ()
    """One, or none at the end."""
    error: BaseException | None = None


class Producer(Generic[Item]):
    """Takes an item where it is told to, no sooner; all in one thread, which ends when the iterable does.

    Args:
        items: any iterable.
        deliver: called in the thread with each item, then once with the end or the error.
        room: items to take without being told.
    """

    def __init__(self, items: Iterable[Item], deliver: Callable[[Taken[Item]], None], room: int = 0) -> None:
        self._deliver = deliver
        self._wanted = threading.Semaphore(room)
        self._lock, self._stopped = threading.Lock(), False
        # Not one to be waited for at the interpreter's end.
        self._thread = threading.Thread(target=self._run, args=(items,), name="cocoer-items", daemon=True)
        self._thread.start()

    def more(self) -> None:
        """Have one more item taken."""
        self._wanted.release()

    def stop(self) -> None:
        """Deliver nothing from now on, and take nothing; waits a moment for the iterable to let go of what it has."""
        with self._lock:
            self._stopped = True
        self._wanted.release()
        self._thread.join(GRACE)

    def _run(self, items: Iterable[Item]) -> None:
        try:
            self._take(iter(items))
        except BaseException as error:
            self._hand_out(Taken(error=error))

    def _take(self, iterator: Iterator[Item]) -> None:
        while True:
            self._wanted.acquire()
            if self._stopped:
                return
            try:
                item = next(iterator)
            except StopIteration:
                self._hand_out(Taken())
                return
            self._hand_out(Taken((item,)))

    def _hand_out(self, taken: Taken[Item]) -> None:
        # With the lock: once stopped, nothing comes any more, so that who gets it may be gone.
        with self._lock:
            if not self._stopped:
                self._deliver(taken)
