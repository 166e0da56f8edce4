"""How long the parts of a request took, as the header ``Server-Timing``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Timing:
    """Of one request."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Around what belongs to a part."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    def header(self) -> str:
        """Parts with their milliseconds."""
        return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in self.seconds.items())
