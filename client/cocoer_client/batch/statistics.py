"""What a run has done, and what is left of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from cocoer_client.sources import Found, LeftOut
from cocoer_client.terminal import printable

COUNTS = ("pictures", "failed", "persons", "refused", "unreachable", "tried_again")
"""Of a worker's figures."""
EXAMPLES = 3
"""Of reasons that are told."""


@dataclass
class Statistics:
    """Of one run; the keys of ``--json``.

    Args:
        output: the output directory.
        total: images of the directory.
        done_before: of these, that earlier runs have done.
        pictures: images that this one has done.
        failed: of these, that have an error.
        left: images of the directory that no server has answered for.
        persons: in the images that this run has done.
        refused, unreachable, tried_again: what happened beside.
        why_left: why images are left -> how many.
        left_out: files that were come across and are no images: which kind -> how many.
        problems: what could not be looked at.
    """

    output: str
    total: int = 0
    done_before: int = 0
    pictures: int = 0
    failed: int = 0
    left: int = 0
    persons: int = 0
    refused: int = 0
    unreachable: int = 0
    tried_again: int = 0
    why_left: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def add(self, figures: Mapping[str, Any]) -> None:
        """A shard's, from a worker."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + int(figures[name]))

    def found(self, found: Found) -> None:
        """What looking for images has left out."""
        self.left_out, self.problems = dict(found.left_out.counts), found.problems

    def remains(self, left: Mapping[str, str]) -> None:
        """What is left of a shard: path -> why."""
        self.left += len(left)
        self.why_left.update(left.values())

    def values(self) -> dict[str, Any]:
        """Of all, with the time up to now."""
        seconds = time.monotonic() - self.started
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "started"}
        values["why_left"] = dict(self.why_left.most_common(EXAMPLES))
        return {**values, "seconds": round(seconds, 1), "pictures_per_second": round(self.pictures / seconds, 2)}

    def as_json(self) -> str:
        """For programs."""
        return json.dumps(self.values())

    def describe(self) -> str:
        """For people."""
        s = self.values()
        lines = [
            f"{s['pictures']} images with {s['persons']} persons in {s['seconds']:.0f} s "
            f"({s['pictures_per_second']:.1f} per second), {s['failed']} failed; {s['done_before']} were done before.",
            f"Results of all {s['total']}: {s['output']}"
            if not self.left
            else f"Results of {self.total - self.left} of {self.total}: {self.output}",
        ]
        if self.failed:
            lines.append("Column error says why an image has no result.")
        if left_out := LeftOut(Counter(self.left_out)).line():
            lines.append(f"{left_out[0].upper()}{left_out[1:]}.")
        if self.left:
            lines.append(f"{self.left} are left, which servers have failed at; the same command asks again:")
            lines += [f"  {count} times: {why}" for why, count in self.why_left.most_common(EXAMPLES)]
            lines.append(f"All of them: {self.output}/_cocoer/left-*.json")
        if self.refused or self.unreachable or self.tried_again:
            lines.append(
                f"Servers were full {self.refused} times, out of reach {self.unreachable} times, and failed "
                f"{self.tried_again} times; what they had refused was asked again."
            )
        return "\n".join(map(printable, lines))
