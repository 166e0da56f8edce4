"""Does it help a vision-language model to leave out the level that CocoER excludes first?

    python -m benchmarks.vlm --annotations Annotations.mat --images emotic/ --model gpt-4o --send-images-to HOST

Asks about every annotated person of EMOTIC, or of folders of classes, in the ways of ``cocoer-vlm`` and in two that
leave out another level, and compares the answers with the annotations. Writes vlm.md, vlm.json and vlm.png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from benchmarks.datasets import DataSet, DatasetError, check_labels
from benchmarks.loading import add_data_set, check_data_set, load
from benchmarks.vlm_people import Annotated, Reading, Recognised, people, recognise, subjects_of
from benchmarks.vlm_probabilities import YesNo
from benchmarks.vlm_report import to_markdown, write_report
from benchmarks.vlm_run import Outcome, Run
from cocoer_client import CocoerClient, CocoerError
from cocoer_client.command import (
    DONE,
    INTERRUPTED,
    MODEL_CHANGED,
    NO_SERVER,
    SOME_FAILED,
    TERMINATED,
    USAGE,
    add_server,
    check_server,
    connection_of,
    whole,
)
from cocoer_client.errors import InvalidInput, InvalidRequest, ModelChanged, ServerUnavailable
from cocoer_client.files import cant_write
from cocoer_client.inputs import NOTHING
from cocoer_client.ordered import in_order
from cocoer_client.signals import Terminated, terminable, waiting
from cocoer_client.terminal import complain, counted
from cocoer_client.vlm.arguments import add_model, add_questions, check_model, endpoint_of, images_of
from cocoer_client.vlm.asking import Asker, Questions, Subject
from cocoer_client.vlm.cache import Cache
from cocoer_client.vlm.cost import Estimate
from cocoer_client.vlm.endpoint import Endpoint, EndpointUnusable
from cocoer_client.vlm.modes import MODES
from cocoer_client.vlm.privacy import check_destination
from cocoer_client.vlm.prompt import Prompt

EPILOG = """\
Begin with --dry-run, which says how many requests it would be, and with --limit. A running CocoER server recognises
the persons in their annotated boxes and says which level is left out.

exit status: 0 all asked; 1 some questions have no answer, or the report can't be written; 2 wrong usage; 3 no server,
or none of this model; 4 CocoER's model has changed meanwhile; 130 interrupted. Answers are kept in --cache: the same
command goes on, and pays for nothing twice.
"""


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.vlm",
        description="Precision, recall and F1 of a vision-language model on annotated persons: with all levels, "
        "without the level that CocoER excludes first, and without another one.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_set(parser.add_argument_group("data set"), seed="of that sample, and of exclude_random")
    add_model(parser.add_argument_group("vision-language model"))
    questions = parser.add_argument_group("questions")
    add_questions(questions, MODES)
    questions.add_argument(
        "--average-precision",
        action="store_true",
        help="ask about each label alone as well, of models that give log-probabilities: 26 times as many requests",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--bootstrap", type=whole, default=2000, metavar="N", help="resamplings for the intervals (default: 2000)"
    )
    output.add_argument(
        "--output-dir", type=Path, default=Path("vlm"), metavar="DIR", help="for the report (default: vlm)"
    )
    output.add_argument("--json", action="store_true", help="print the report as JSON instead of the tables")
    group = parser.add_argument_group("CocoER's server")
    group.add_argument("--url", help="its gRPC address (default: $COCOER_URL, else localhost:8001)")
    add_server(group, timeout=120.0, retries=3)
    args = parser.parse_args(argv)
    if not args.show_prompt:
        check_data_set(parser, args)
    check_model(parser, args)
    check_server(parser, args)
    return args


def run(args: argparse.Namespace) -> int:
    """The exit status.

    Raises:
        DatasetError: the data set, or its labels, can't be used.
        InvalidInput, InvalidRequest: wrong usage.
        ServerUnavailable, EndpointUnusable: nobody answers.
        ModelChanged: CocoER's model is another one than at the beginning.
    """
    prompt = Prompt.load(args.prompt)
    if args.show_prompt:
        prompt.show()
        return DONE
    if not args.dry_run:
        check_destination(args.base_url, args.send_images_to)
    options, data = endpoint_of(args), load(args)
    with (
        Endpoint(options) as endpoint,
        CocoerClient(args.url, retries=args.retries, **connection_of(args).arguments()) as client,
    ):
        client.check_ready()
        nobody = client.infer(NOTHING, [])
        check_labels(data.examples, nobody.labels)
        prompt.check_labels(nobody.labels)
        questions = Questions(args.modes, prompt, nobody.labels, images_of(args), args.detail, seed=args.seed)
        asker = Asker(questions, endpoint, Cache(None if args.no_cache else args.cache))
        reading = Reading(args.images, args.missing_head == "guess", args.array_order, questions.images)
        work = Work(args, data, reading, asker)
        result = Run(args, data, questions, options, nobody.model)
        result.images = work.recognise(client, nobody.model.model_dump())
        cost = sum((image.cost for image in result.images), Estimate())
        persons = sum(len(image.persons) for image in result.images)
        print(f"{counted(persons, 'person')}: {cost.told(args.prices)}", file=sys.stderr, flush=True)
        if not persons:
            raise DatasetError("no annotated person was found in any image")
        if args.dry_run:
            return DONE
        cost.require_at_most(args.max_requests)
        result.outcomes = work.ask(result.images)
        result.unread, result.yes_no, result.notes = work.failures, work.yes_no, endpoint.notes
    report = write_report(result, args.output_dir)
    print((args.output_dir / "vlm.json").read_text(encoding="utf-8") if args.json else to_markdown(report))
    print(f"written to {args.output_dir}/: vlm.md, vlm.json, vlm.png", file=sys.stderr)
    return SOME_FAILED if result.failed or (work.yes_no and work.yes_no.failed) else DONE


class Work:
    """Recognises and asks.

    Args:
        args: the command line.
        data: images and their persons.
        reading: how they are read.
        asker: who asks.
    """

    def __init__(self, args: argparse.Namespace, data: DataSet, reading: Reading, asker: Asker) -> None:
        self.args, self.data, self.reading, self.asker = args, data, reading, asker
        self.yes_no = YesNo(asker) if args.average_precision else None
        self.failures: list[str] = []

    def recognise(self, client: CocoerClient, about: dict[str, object]) -> list[Recognised]:
        """All images, with what asking about their persons will cost."""
        found = recognise(client, self.data.examples, self.reading, about, self.args.concurrency)
        total = len(self.data.examples)
        # Closed where this is interrupted: what is under way comes to its end while there is still a connection.
        with closing(in_order(self._estimated, found, self.args.concurrency)) as images:
            return list(tqdm(images, total=total, unit="image", desc="recognising", disable=None))

    def ask(self, images: Sequence[Recognised]) -> list[Outcome]:
        """About all persons."""
        subjects = people(images, self.reading, self.failures)
        total = sum(len(image.persons) for image in images)
        told = "interrupted; answers under way are waited for, since they are paid for"
        with waiting(lambda: complain(told)), closing(in_order(self._ask, subjects, self.args.concurrency)) as outcomes:
            return list(tqdm(outcomes, total=total, unit="person", desc="asking", disable=None))

    def _estimated(self, image: Recognised) -> Recognised:
        cost = Estimate()
        try:
            for _, subject in subjects_of(image, self.reading):
                cost += self.asker.estimate(subject)
                cost += self.yes_no.estimate(subject) if self.yes_no else Estimate()
        except (CocoerError, OSError, ValueError, EOFError) as error:
            return replace(image, persons=(), failure=f"{image.example.image}: {error}")
        return replace(image, cost=cost)

    def _ask(self, person: tuple[Annotated, Subject]) -> Outcome:
        annotated, subject = person
        asked = [replace(one, images=()) for one in self.asker.ask(subject)]  # which would fill the memory
        return Outcome(annotated, subject.file, asked, self.yes_no.ask(subject) if self.yes_no else None)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        with terminable():
            return run(args)
    except (ServerUnavailable, EndpointUnusable) as error:
        complain(f"{error}; the same command goes on from here")
        return NO_SERVER
    except (InvalidInput, InvalidRequest) as error:
        complain(str(error))
        return USAGE
    except ModelChanged as error:
        complain(str(error))
        return MODEL_CHANGED
    except (DatasetError, CocoerError) as error:
        complain(str(error))
        return SOME_FAILED
    except OSError as error:
        complain(cant_write(error))
        return SOME_FAILED
    except KeyboardInterrupt as error:
        complain("stopped; the same command goes on from here")
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
