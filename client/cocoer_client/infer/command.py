"""Recognise emotions in images and videos with a running server: ``cocoer-infer --help``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from cocoer_client.client import CocoerClient
from cocoer_client.command import DONE, INTERRUPTED, NO_SERVER, SOME_FAILED, USAGE, connection_of, thresholds_of
from cocoer_client.drawing.explain import write_page
from cocoer_client.errors import CocoerError, InvalidInput, ServerUnavailable, is_gone
from cocoer_client.files import cant_write
from cocoer_client.infer.arguments import parse_args
from cocoer_client.infer.journal import Journal
from cocoer_client.infer.names import Names
from cocoer_client.infer.outputs import CsvFile, JsonFile, LinesFile, Stream
from cocoer_client.infer.run import Outcome, Run
from cocoer_client.infer.talk import Talk, Totals, complain
from cocoer_client.infer.targets import check_targets
from cocoer_client.inputs import read_persons
from cocoer_client.protocol import Thresholds
from cocoer_client.reading import warnings_of
from cocoer_client.sources import find
from cocoer_client.terminal import printable

JOURNAL = "results.jsonl"


def open_streams(args: argparse.Namespace, several: bool, stack: contextlib.ExitStack) -> list[Stream]:
    streams: list[Stream] = []
    if args.json:
        streams.append(stack.enter_context(JsonFile(args.json, several)))
    if args.csv:
        streams.append(stack.enter_context(CsvFile(args.csv)))
    if args.jsonl == "-":
        streams.append(stack.enter_context(LinesFile("-")))
    return streams


def open_journal(args: argparse.Namespace, several: bool, options: Thresholds) -> Journal | None:
    """JSON Lines where they are wanted: said so, to resume, or because there is much to lose."""
    named = args.jsonl not in (None, "-")
    if not (named or args.resume or several):
        return None
    path = Path(args.jsonl) if named else args.output_dir / JOURNAL
    return Journal(path, args.resume, options, images=not args.no_images)


def run(args: argparse.Namespace) -> int:
    persons = read_persons(args.persons) if args.persons else None
    options = thresholds_of(args)
    found = find(args.inputs, allow_url=args.allow_url, output_dir=args.output_dir, column=args.column)
    sources = found.sources
    try:
        check_targets(args, sources)
    except InvalidInput as error:
        complain(str(error))
        return USAGE
    totals, talk = Totals(failures=found.problems, left_out=found.left_out), Talk(args, sources)
    if (persons is not None or args.explain) and talk.several:
        raise InvalidInput("--persons and --explain are for one image")
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(CocoerClient(args.url, retries=args.retries, **connection_of(args).arguments()))
        if sources:
            client.check_ready()
        journal = open_journal(args, talk.several, options)
        if journal:
            stack.callback(journal.close)
        streams = open_streams(args, talk.several or len(args.inputs) > 1, stack)
        inputs = [source.name for source in sources if source.kind in ("file", "video")]
        names = Names(args.output_dir, inputs, journal.images if journal else {})
        work = Run(client, args, persons, options, journal, names, talk.expect)
        interrupted = False
        try:
            for outcome in until_lost(work.outcomes(sources), totals):
                totals.count(outcome)
                for stream in streams:
                    for record in outcome.records:
                        stream.add(record)
                talk.tell(outcome, persons is not None)
                if args.explain and outcome.error is None:
                    explain(args, outcome, persons is not None)
        except KeyboardInterrupt:
            interrupted = True
        talk.close(totals, journal)
    return status(totals, interrupted, journal)


def until_lost(outcomes: Generator[Outcome, None, None], totals: Totals) -> Iterator[Outcome]:
    """Outcomes, until one tells that the server is gone: the rest would fail the same way."""
    with contextlib.closing(outcomes) as open_outcomes:
        for outcome in open_outcomes:
            yield outcome
            if is_gone(outcome.error):
                totals.lost = True
                return


def explain(args: argparse.Namespace, outcome: Outcome, boxes_given: bool) -> None:
    if outcome.data:
        write_page(args.explain, outcome.data, outcome.records[0], warnings_of(outcome.records[0], boxes_given))
        if not args.quiet:
            print(f"explanation: {printable(str(args.explain))}", file=sys.stderr)


def status(totals: Totals, interrupted: bool, journal: Journal | None) -> int:
    """The exit status; says what to do where not all was done."""
    if not (interrupted or totals.lost):
        return SOME_FAILED if totals.failures else DONE
    if journal:
        what = "interrupted" if interrupted else "stopped, since the server is gone"
        complain(f"{what}; what is done is kept: the same command with --resume does the rest")
    return INTERRUPTED if interrupted else NO_SERVER


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    args = parse_args(argv)
    try:
        return run(args)
    except ServerUnavailable as error:
        complain(str(error))
        return NO_SERVER
    except CocoerError as error:
        complain(str(error))
        return SOME_FAILED
    except OSError as error:
        complain(cant_write(error))
        return SOME_FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
