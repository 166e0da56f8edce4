"""Recognise emotions in images and videos with a running server: ``cocoer-infer --help``."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cocoer_client.client import CocoerClient
from cocoer_client.command import (
    DONE,
    INTERRUPTED,
    MODEL_CHANGED,
    NO_READER,
    NO_SERVER,
    SOME_FAILED,
    TERMINATED,
    USAGE,
    connection_of,
)
from cocoer_client.drawing.explain import write_page
from cocoer_client.errors import CocoerError, InvalidInput, InvalidRequest, ModelChanged, ServerUnavailable, is_gone
from cocoer_client.files import cant_write, naming
from cocoer_client.infer.arguments import options_of, parse_args
from cocoer_client.infer.talk import Talk
from cocoer_client.infer.targets import check_targets
from cocoer_client.pipeline import Journal, Outcome, Run, Totals
from cocoer_client.pipeline.following import Following
from cocoer_client.reading import warnings_of
from cocoer_client.signals import Terminated, terminable
from cocoer_client.sinks import CocoFile, CsvFile, JsonFile, JsonLinesFile, ParquetFile, Sink
from cocoer_client.sources import find
from cocoer_client.terminal import complain, printable
from cocoer_client.timeline.writers import writer_of

JOURNAL = "results.jsonl"


def open_sinks(args: argparse.Namespace, several: bool, stack: contextlib.ExitStack) -> list[Sink]:
    """What results go to beside the journal; each is closed with ``stack``."""
    sinks: list[Sink] = []
    if args.json:
        sinks.append(stack.enter_context(JsonFile(args.json, several)))
    if args.csv:
        sinks.append(stack.enter_context(CsvFile(args.csv)))
    if args.coco:
        sinks.append(stack.enter_context(CocoFile(args.coco)))
    if args.parquet:
        sinks.append(stack.enter_context(ParquetFile(args.parquet)))
    if args.jsonl == "-":
        sinks.append(stack.enter_context(JsonLinesFile("-")))
    return sinks


def open_journal(args: argparse.Namespace, several: bool) -> Journal | None:
    """JSON Lines where they are wanted: said so, to resume, or because there is much to lose."""
    named = args.jsonl not in (None, "-")
    if not (named or args.resume or several):
        return None
    path = Path(args.jsonl) if named else args.output_dir / JOURNAL
    return Journal(path, args.resume)


def run(args: argparse.Namespace) -> int:
    options = options_of(args)
    found = find(args.inputs, allow_url=args.allow_url, output_dir=args.output_dir, column=args.column)
    sources = found.sources
    try:
        check_targets(args, sources)
    except InvalidInput as error:
        complain(str(error))
        return USAGE
    totals, talk = Totals(options, found.problems, found.left_out), Talk(args, sources)
    if (options.boxes_given or args.explain) and talk.several:
        raise InvalidInput("--persons and --explain are for one image")
    if args.timeline and (len(sources) > 1 or any(not source.is_video for source in sources)):
        raise InvalidInput("--timeline is for one video")
    with contextlib.ExitStack() as stack:
        # What is asked again is the run's to say.
        connection = CocoerClient(args.url, retries=0, **connection_of(args).arguments())
        client = stack.enter_context(connection)
        if sources:
            client.check_ready()
        journal = open_journal(args, talk.several)
        if journal:
            stack.callback(journal.close)
        work = Run(client, options, journal, expect=talk.expect)
        stop: Exception | KeyboardInterrupt | None = None
        try:
            work.begin(sources)
        except (InvalidInput, InvalidRequest) as error:
            complain(str(error))
            return USAGE
        # Not before: an earlier table stays until there is something to put in its place.
        work.sinks = open_sinks(args, talk.several or len(args.inputs) > 1, stack)
        timelines = [writer_of(path) for path in args.timeline]
        for timeline in timelines:
            stack.callback(timeline.write)  # whatever ends the run: what there is of it
        work.step = Following(options, timelines)
        talk.begin(journal)
        try:
            for outcome in work.outcomes(sources):
                totals.count(outcome)
                talk.tell(outcome, options.boxes_given)
                if args.explain and outcome.error is None:
                    explain(args, outcome, options.boxes_given)
        except BrokenPipeError:
            raise
        except (KeyboardInterrupt, ModelChanged, OSError) as error:
            stop = error
        stop = stop or work.patience.lost
        talk.close(totals, journal, work.notes)
    return status(totals, stop, journal)


def explain(args: argparse.Namespace, outcome: Outcome, boxes_given: bool) -> None:
    if outcome.data:
        record = {**outcome.records[0], "file": printable(outcome.records[0]["file"])}
        with naming(args.explain):
            write_page(args.explain, outcome.data, record, warnings_of(record, boxes_given))
        if not args.quiet:
            print(f"explanation: {printable(str(args.explain))}", file=sys.stderr)


def status(totals: Totals, stop: Exception | KeyboardInterrupt | None, journal: Journal | None) -> int:
    """The exit status; where the run was stopped, says why, and what to do."""
    if stop is None:
        return SOME_FAILED if totals.failures else DONE
    rest, code = "does the rest", SOME_FAILED
    if isinstance(stop, KeyboardInterrupt):
        what, code = "interrupted", TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    elif isinstance(stop, ModelChanged):
        what, rest, code = f"stopped, since {stop}", "does all anew, with the model that answers now", MODEL_CHANGED
    elif isinstance(stop, OSError):
        what = f"stopped: {cant_write(stop)}"
        rest = "" if "--resume" in what else rest  # of a full disk it says so already
    elif is_gone(stop):
        what, code = "stopped, since the server is gone", NO_SERVER
    else:
        what, code = "stopped, since the server has given no result for a while", NO_SERVER
    if journal:
        what += "; what is done is kept" + (f": the same command with --resume {rest}" if rest else "")
    complain(what)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    args = parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of names that the terminal can't show
    try:
        with terminable():
            return run(args)
    except ServerUnavailable as error:
        complain(str(error))
        return NO_SERVER
    except BrokenPipeError:
        # Whoever read has seen enough, as head has; the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except (CocoerError, OSError) as error:
        complain(cant_write(error) if isinstance(error, OSError) else str(error))
        return SOME_FAILED
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
