"""Recognise emotions in pictures and videos with a running server: ``python client/infer.py --help``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

# gRPC's own remarks would stand before our one line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from tqdm import tqdm  # noqa: E402

from client.arguments import parse_args  # noqa: E402
from client.client import CocoerClient  # noqa: E402
from client.connection import TLS  # noqa: E402
from client.errors import CocoerError, InvalidInput, ServerBusy, ServerUnavailable  # noqa: E402
from client.explain import write_page  # noqa: E402
from client.inputs import BoxPair  # noqa: E402
from client.journal import Journal  # noqa: E402
from client.outputs import CsvFile, JsonFile, LinesFile, Stream  # noqa: E402
from client.pictures import Names  # noqa: E402
from client.report import format_line, format_result, shown_warnings  # noqa: E402
from client.run import Outcome, Run  # noqa: E402
from client.sources import Source, find_sources  # noqa: E402

DONE, SOME_FAILED, NO_SERVER, INTERRUPTED = 0, 1, 3, 130
"""Exit statuses; 2 is wrong usage."""
MOST_FAILURES = 20
"""Listed at the end."""
JOURNAL = "results.jsonl"
THRESHOLDS = ("final_threshold", "level_threshold", "min_score")


def read_persons(path: Path) -> list[BoxPair]:
    """Boxes from a JSON file; raises ``InvalidInput`` where it is not what ``--persons`` takes."""
    try:
        persons = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: {error}") from error
    if not isinstance(persons, list) or not all(map(_is_box_pair, persons)):
        raise InvalidInput(
            f'{path} must hold [{{"body": [x1, y1, x2, y2], "head": [x1, y1, x2, y2]}}, ...] in pixels; '
            'without "head", the server looks for it'
        )
    return persons


def _is_box_pair(person: Any) -> bool:
    return (
        isinstance(person, dict) and _is_box(person.get("body")) and ("head" not in person or _is_box(person["head"]))
    )


def _is_box(box: Any) -> bool:
    numbers = isinstance(box, list) and len(box) == 4
    return numbers and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in box)


@dataclass
class Totals:
    """What has become of it so far."""

    pictures: int = 0
    persons: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    lost: ServerUnavailable | None = None
    started: float = field(default_factory=time.monotonic)

    def summary(self) -> str:
        seconds = time.monotonic() - self.started
        parts = [f"{self.pictures} pictures, {self.persons} persons in {seconds:.1f} s"]
        if self.pictures:
            parts[0] += f" ({self.pictures / seconds:.1f} pictures/s)"
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
        self.bar = tqdm(total=total, unit="picture", disable=hidden, dynamic_ncols=True, smoothing=0.1)

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
                text = format_line(record)
            else:
                text = format_result(record["file"], record, boxes_given) + "\n"
                if "picture" in record:
                    text += f"\npicture: {record['picture']}"
            tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def close(self, totals: Totals, journal: Journal | None) -> None:
        self.bar.close()
        if self.several and not self.args.quiet:
            print(totals.summary() + (f"; results: {journal.path}" if journal else ""), file=sys.stderr)
        for failure in totals.failures[:MOST_FAILURES]:
            complain(failure)
        if len(totals.failures) > MOST_FAILURES:
            complain(f"... and {len(totals.failures) - MOST_FAILURES} more")


def open_streams(args: argparse.Namespace, several: bool, stack: contextlib.ExitStack) -> list[Stream]:
    streams: list[Stream] = []
    if args.json:
        streams.append(stack.enter_context(JsonFile(args.json, several)))
    if args.csv:
        streams.append(stack.enter_context(CsvFile(args.csv)))
    if args.jsonl == "-":
        streams.append(stack.enter_context(LinesFile("-")))
    return streams


def open_journal(args: argparse.Namespace, several: bool, options: dict[str, float]) -> Journal | None:
    """JSON Lines where they are wanted: said so, to resume, or because there is much to lose."""
    named = args.jsonl not in (None, "-")
    if not (named or args.resume or several):
        return None
    path = Path(args.jsonl) if named else args.output_dir / JOURNAL
    return Journal(path, args.resume, options, pictures=not args.no_pictures)


def run(args: argparse.Namespace) -> int:
    persons = read_persons(args.persons) if args.persons else None
    options = {name: value for name in THRESHOLDS if (value := getattr(args, name)) is not None}
    sources, unusable = usable_sources(args)
    totals, talk = Totals(failures=unusable), Talk(args, sources)
    if (persons is not None or args.explain) and talk.several:
        raise InvalidInput("--persons and --explain are for one picture")
    tls = TLS(args.tls_ca, args.tls_cert, args.tls_key) if args.tls_ca or args.tls_cert else None
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(CocoerClient(args.url, args.timeout, tls=tls, headers=dict(args.header)))
        if sources:
            client.check_ready()
        journal = open_journal(args, talk.several, options)
        if journal:
            stack.callback(journal.close)
        streams = open_streams(args, talk.several or len(args.inputs) > 1, stack)
        inputs = [source.name for source in sources if source.kind in ("file", "video")]
        names = Names(args.output_dir, inputs, journal.pictures if journal else {})
        work = Run(client, args, persons, options, journal, names, talk.expect)
        interrupted = False
        try:
            for outcome in until_lost(work.outcomes(sources), totals):
                count(outcome, totals)
                for stream in streams:
                    for record in outcome.records:
                        stream.add(record)
                talk.tell(outcome, persons is not None)
                if args.explain and outcome.error is None:
                    explain(args, outcome, persons is not None)
        except KeyboardInterrupt:
            interrupted = True
        talk.close(totals, journal)
    return status(totals, interrupted, sources, journal)


def usable_sources(args: argparse.Namespace) -> tuple[list[Source], list[str]]:
    """Sources, and messages about inputs that are none."""
    sources, problems = [], []
    for given in args.inputs:
        try:
            sources += find_sources([given], args.allow_url, args.output_dir)
        except InvalidInput as error:
            problems.append(str(error))
    return list(dict.fromkeys(sources)), problems


def until_lost(outcomes: Iterator[Outcome], totals: Totals) -> Iterator[Outcome]:
    """Outcomes, until one tells that the server is gone: the rest would fail the same way."""
    with contextlib.closing(outcomes) as open_outcomes:  # type: ignore[type-var]
        for outcome in open_outcomes:
            yield outcome
            if isinstance(outcome.error, ServerUnavailable) and not isinstance(outcome.error, ServerBusy):
                totals.lost = outcome.error
                return


def count(outcome: Outcome, totals: Totals) -> None:
    if not outcome.is_new:
        totals.skipped += len(outcome.records)
        return
    for record in outcome.records:
        if "error" in record:
            place = f" frame {record['frame']}" if "frame" in record else ""
            totals.failures.append(f"{record['file']}{place}: {record['error']['message']}")
        else:
            totals.pictures += 1
            totals.persons += len(record["persons"])


def explain(args: argparse.Namespace, outcome: Outcome, boxes_given: bool) -> None:
    if outcome.data:
        write_page(args.explain, outcome.data, outcome.records[0], shown_warnings(outcome.records[0], boxes_given))
        if not args.quiet:
            print(f"explanation: {args.explain}", file=sys.stderr)


def status(totals: Totals, interrupted: bool, sources: Sequence[Source], journal: Journal | None) -> int:
    """The exit status; says what to do where not all was done."""
    if not interrupted and totals.lost is None:
        return SOME_FAILED if totals.failures else DONE
    if journal:
        what = "interrupted" if interrupted else "stopped, since the server is gone"
        complain(f"{what}; what is done is kept: the same command with --resume does the rest")
    return INTERRUPTED if interrupted else NO_SERVER


def complain(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        return run(args)
    except ServerUnavailable as error:
        complain(str(error))
        return NO_SERVER
    except (CocoerError, OSError) as error:
        complain(str(error))
        return SOME_FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
