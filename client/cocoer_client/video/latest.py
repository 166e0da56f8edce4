"""The newest of what comes by itself: a live source is read by a thread of its own, which waits for nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Latest(Generic[Item]):
    """Iterates over the newest item whenever one is asked for; those in between are dropped, and counted.

    Args:
        items: read as fast as they come, in a thread. What it raises is raised to who takes.

    >>> list(Latest(iter([])))
    []
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self.items = items
        self.dropped = 0
        self._changed = threading.Condition()
        self._slot: list[Item] = []
        self._over = self._closed = False
        self._error: Exception | None = None
        # Not waited for at the program's end: it may hang in a read.
        self._thread = threading.Thread(target=self._read, name="cocoer-live", daemon=True)

    def __iter__(self) -> Iterator[Item]:
        self._thread.start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slot or self._over)
                if not self._slot:
                    break
                item = self._slot.pop()
            yield item
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """No more is wanted; the thread ends with its next item."""
        self._closed = True

    def _read(self) -> None:
        try:
            for item in self.items:
                with self._changed:
                    if self._closed:
                        break
                    self.dropped += len(self._slot)
                    self._slot[:] = [item]
                    self._changed.notify()
        except Exception as error:
            self._error = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify()
