"""Recognise emotions in images and videos with a running server: ``cocoer-infer --help``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from cocoer_client.client import CocoerClient
from cocoer_client.command import DONE, INTERRUPTED, NO_SERVER, SOME_FAILED, USAGE
from cocoer_client.connection import TLS
from cocoer_client.drawing.explain import write_page
from cocoer_client.errors import CocoerError, InvalidInput, ServerUnavailable
from cocoer_client.infer.arguments import options_of, parse_args
from cocoer_client.infer.talk import Talk, complain
from cocoer_client.infer.targets import check_targets
from cocoer_client.pipeline import Journal, Outcome, Run, RunOptions, Totals
from cocoer_client.reading import warnings_of
from cocoer_client.sinks import CsvFile, JsonFile, JsonLinesFile, ParquetFile, Sink
from cocoer_client.sources import Source, find_sources

JOURNAL = "results.jsonl"


def open_sinks(args: argparse.Namespace, several: bool, stack: contextlib.ExitStack) -> list[Sink]:
    """What results go to beside the journal; each is closed with ``stack``."""
    sinks: list[Sink] = []
    if args.json:
        sinks.append(stack.enter_context(JsonFile(args.json, several)))
    if args.csv:
        sinks.append(stack.enter_context(CsvFile(args.csv)))
    if args.parquet:
        sinks.append(stack.enter_context(ParquetFile(args.parquet)))
    if args.jsonl == "-":
        sinks.append(stack.enter_context(JsonLinesFile("-")))
    return sinks


def open_journal(args: argparse.Namespace, several: bool, options: RunOptions) -> Journal | None:
    """JSON Lines where they are wanted: said so, to resume, or because there is much to lose."""
    named = args.jsonl not in (None, "-")
    if not (named or args.resume or several):
        return None
    path = Path(args.jsonl) if named else args.output_dir / JOURNAL
    return Journal(path, args.resume, options.thresholds, images=options.images)


def run(args: argparse.Namespace) -> int:
    options = options_of(args)
    sources, unusable = usable_sources(args)
    try:
        check_targets(args, sources)
    except InvalidInput as error:
        complain(str(error))
        return USAGE
    totals, talk = Totals(options, failures=unusable), Talk(args, sources)
    if (options.boxes_given or args.explain) and talk.several:
        raise InvalidInput("--persons and --explain are for one image")
    tls = TLS(args.tls_ca, args.tls_cert, args.tls_key) if args.tls_ca or args.tls_cert else None
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(CocoerClient(args.url, args.timeout, tls=tls, headers=dict(args.header)))
        if sources:
            client.check_ready()
        journal = open_journal(args, talk.several, options)
        if journal:
            stack.callback(journal.close)
        sinks = open_sinks(args, talk.several or len(args.inputs) > 1, stack)
        work = Run(client, options, journal, sinks, expect=talk.expect)
        interrupted = False
        try:
            for outcome in work.outcomes(sources):
                totals.count(outcome)
                talk.tell(outcome, options.boxes_given)
                if args.explain and outcome.error is None:
                    explain(args, outcome, options.boxes_given)
        except KeyboardInterrupt:
            interrupted = True
        totals.lost = work.patience.lost
        talk.close(totals, journal)
    return status(totals, interrupted, journal)


def usable_sources(args: argparse.Namespace) -> tuple[list[Source], list[str]]:
    """Sources, and messages about inputs that are none."""
    sources, problems = [], []
    for given in args.inputs:
        try:
            sources += find_sources([given], args.allow_url, args.output_dir)
        except InvalidInput as error:
            problems.append(str(error))
    return list(dict.fromkeys(sources)), problems


def explain(args: argparse.Namespace, outcome: Outcome, boxes_given: bool) -> None:
    if outcome.data:
        write_page(args.explain, outcome.data, outcome.records[0], warnings_of(outcome.records[0], boxes_given))
        if not args.quiet:
            print(f"explanation: {args.explain}", file=sys.stderr)


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
    except (CocoerError, OSError) as error:
        complain(str(error))
        return SOME_FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
