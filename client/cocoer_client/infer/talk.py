"""What ``cocoer-infer`` says while it works, and at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import IO

from tqdm import tqdm

from cocoer_client.infer.report import format_line, format_result
from cocoer_client.pipeline import Journal, Outcome, Totals
from cocoer_client.reading import warnings_of
from cocoer_client.sources import Source
from cocoer_client.terminal import complain, counted, printable

MAX_FAILURES = 20
"""Listed at the end."""


def summary(totals: Totals) -> str:
    """What was done, on a line."""
    before = f"{totals.failed_before} refused before (--retry-failed asks again)" if totals.failed_before else ""
    failed = len(totals.failures) - totals.failed_before
    if totals.skipped + totals.failed_before and not totals.images + failed:
        done = f"{totals.skipped} done before" if totals.skipped else ""
        return "; ".join(filter(None, ("nothing left to do", done, before)))
    seconds = totals.seconds
    parts = [f"{counted(totals.images, 'image')}, {counted(totals.persons, 'person')} in {seconds:.1f} s"]
    if totals.images:
        parts[0] += f" ({totals.images / seconds:.1f} images/s)"
    if totals.skipped:
        parts.append(f"{totals.skipped} done before")
    if failed:
        parts.append(f"{failed} failed")
    if before:
        parts.append(before)
    return "; ".join(parts)


class Talk:
    """What is said while it runs: text on standard output, the bar, the summary and errors on standard error."""

    def __init__(self, args: argparse.Namespace, sources: Sequence[Source]) -> None:
        self.args = args
        self.several = len(sources) > 1 or any(source.is_video for source in sources)
        self.text = not args.quiet and "-" not in (args.json, args.jsonl, args.csv, args.coco)
        endless = any(source.kind in ("camera", "stream") for source in sources)
        # Without a terminal (None), or anything to wait for, no bar.
        hidden = True if args.quiet or not self.several else None
        total = None if endless else len(sources)
        self.warned: set[str] = set()
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
                self._warn(warnings_of(record, boxes_given), sys.stdout)
                text = format_line(record)
            else:
                self.warned |= {warning.partition(":")[0] for warning in warnings_of(record, boxes_given)}
                text = format_result(record["file"], record, boxes_given) + "\n"
                if "picture" in record:
                    text += f"\nimage: {printable(record['picture'])}"
            tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def _warn(self, warnings: Iterable[str], file: IO[str]) -> None:
        """What must not be overlooked, once for all images."""
        for warning in warnings:
            kind = warning.partition(":")[0]
            if kind not in self.warned:
                tqdm.write(f"!! {printable(warning)}", file=file)
            self.warned.add(kind)

    def begin(self, journal: Journal | None) -> None:
        """Why results of an earlier run don't count."""
        if journal and not self.args.quiet:
            for note in journal.notes:
                tqdm.write(note, file=sys.stderr)

    def close(self, totals: Totals, journal: Journal | None, notes: Sequence[str] = ()) -> None:
        """The summary: counts, warnings of what was shown again or not at all, failures."""
        self.bar.close()
        if (self.several or totals.skipped) and not self.args.quiet:
            self._warn(totals.warnings.values(), sys.stderr)
            print(summary(totals) + (f"; results: {printable(str(journal.path))}" if journal else ""), file=sys.stderr)
        if totals.left_out and not self.args.quiet:
            print(totals.left_out.line(), file=sys.stderr)
        for note in () if self.args.quiet else notes:
            print(printable(note), file=sys.stderr)
        for failure in totals.failures[:MAX_FAILURES]:
            complain(failure)
        if len(totals.failures) > MAX_FAILURES:
            complain(f"... and {len(totals.failures) - MAX_FAILURES} more")
