"""What ``cocoer-infer`` says while it works, and its totals."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from cocoer_client.infer.journal import Journal
from cocoer_client.infer.outputs import Record
from cocoer_client.infer.report import counted, format_line, format_result
from cocoer_client.infer.run import Outcome
from cocoer_client.reading import warnings_of
from cocoer_client.sources import LeftOut, Source
from cocoer_client.terminal import printable

MAX_FAILURES = 20
"""Listed at the end."""


@dataclass
class Totals:
    """What has become of it so far."""

    images: int = 0
    persons: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    lost: bool = False
    """The server is gone; the rest was not asked."""
    started: float = field(default_factory=time.monotonic)

    def count(self, outcome: Outcome) -> None:
        if not outcome.is_new:
            self.skipped += len(outcome.records)
            return
        for record in outcome.records:
            if "error" in record:
                place = f" frame {record['frame']}" if "frame" in record else ""
                self.failures.append(f"{record['file']}{place}: {record['error']['message']}")
            else:
                self.images += 1
                self.persons += len(record["persons"])
        if outcome.not_drawn:
            name = outcome.task.source.name
            self.failures.append(f"{name}: there is a result, but no annotated image: {outcome.not_drawn}")

    def summary(self) -> str:
        seconds = time.monotonic() - self.started
        if self.skipped and not (self.images or self.failures):
            return f"nothing left to do; {self.skipped} done before"
        parts = [f"{counted(self.images, 'image')}, {counted(self.persons, 'person')} in {seconds:.1f} s"]
        if self.images:
            parts[0] += f" ({self.images / seconds:.1f} images/s)"
        if self.skipped:
            parts.append(f"{self.skipped} done before")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        return "; ".join(parts)


class Talk:
    """What is said while it runs: text on standard output, the bar, the summary and errors on standard error."""

    def __init__(self, args: argparse.Namespace, sources: Sequence[Source]) -> None:
        self.args = args
        self.several = len(sources) > 1 or any(source.is_video for source in sources)
        self.text = not args.quiet and "-" not in (args.json, args.jsonl, args.csv)
        endless = any(source.kind == "camera" for source in sources)
        # Without a terminal (None), or anything to wait for, no bar.
        hidden = True if args.quiet or not self.several else None
        total = None if endless else len(sources)
        self.warned = False
        self.bar = tqdm(total=total, unit="image", disable=hidden, dynamic_ncols=True, smoothing=0.1)

    def expect(self, frames: int | None) -> None:
        """A video, counted as one, has this many frames."""
        if self.bar.total is not None and frames is not None:
            self.bar.total += frames - 1
            self.bar.refresh()

    def tell(self, outcome: Outcome, boxes_given: bool) -> None:
        self.bar.update(len(outcome.records))
        if not self.text or not outcome.is_new or outcome.error is not None:
            return
        for record in outcome.records:
            if self.several and not self.args.verbose:
                self._warn(record, boxes_given)
                text = format_line(record)
            else:
                text = format_result(record["file"], record, boxes_given) + "\n"
                if "picture" in record:
                    text += f"\nimage: {printable(record['picture'])}"
            tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def _warn(self, record: Record, boxes_given: bool) -> None:
        """What must not be overlooked, once for all images."""
        if not self.warned:
            for warning in warnings_of(record, boxes_given):
                tqdm.write(f"!! {printable(warning)}", file=sys.stdout)
        self.warned = True

    def close(self, totals: Totals, journal: Journal | None) -> None:
        self.bar.close()
        if self.several and not self.args.quiet:
            print(totals.summary() + (f"; results: {printable(str(journal.path))}" if journal else ""), file=sys.stderr)
        if totals.left_out and not self.args.quiet:
            print(totals.left_out.line(), file=sys.stderr)
        for failure in totals.failures[:MAX_FAILURES]:
            complain(failure)
        if len(totals.failures) > MAX_FAILURES:
            complain(f"... and {len(totals.failures) - MAX_FAILURES} more")


def complain(message: str) -> None:
    """Say what is wrong, on one line."""
    print(f"error: {printable(message)}", file=sys.stderr)
