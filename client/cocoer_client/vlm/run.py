"""A run of ``cocoer-vlm``: recognise, tell the cost, ask, write."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from cocoer_client.client import CocoerClient
from cocoer_client.command import (
    DONE,
    INTERRUPTED,
    NO_SERVER,
    SOME_FAILED,
    TERMINATED,
    USAGE,
    connection_of,
    thresholds_of,
)
from cocoer_client.files import replace_file
from cocoer_client.inputs import NOTHING
from cocoer_client.ordered import in_order
from cocoer_client.signals import Terminated, waiting
from cocoer_client.sources import Source, find
from cocoer_client.sources.reading import local_path
from cocoer_client.sources.targets import check_files
from cocoer_client.terminal import complain
from cocoer_client.vlm.arguments import endpoint_of, images_of
from cocoer_client.vlm.asking import Asked, Asker, Questions, Subject
from cocoer_client.vlm.cache import Cache
from cocoer_client.vlm.cost import Estimate
from cocoer_client.vlm.endpoint import Endpoint, EndpointUnusable
from cocoer_client.vlm.people import Recognised, people, recognise
from cocoer_client.vlm.privacy import check_destination
from cocoer_client.vlm.prompt import Prompt
from cocoer_client.vlm.record import Record
from cocoer_client.vlm.report import MOST, About, Person, without_images, write_report
from cocoer_client.vlm.talk import Talk


def run(args: argparse.Namespace) -> int:
    """The exit status.

    Raises:
        InvalidInput, InvalidRequest: wrong usage.
        ServerUnavailable: no CocoER.
    """
    prompt = Prompt.load(args.prompt)
    if args.show_prompt:
        prompt.show()
        return DONE
    if not args.dry_run:
        check_destination(args.base_url, args.send_images_to)
    options = endpoint_of(args)
    found = find(args.inputs, allow_url=args.allow_url, images_only=True)
    _check_targets(args, found.sources)
    talk = Talk(args, found.left_out)
    for problem in found.problems:
        complain(problem)
    if not found.sources:
        return USAGE if found.unusable else DONE
    with (
        Endpoint(options) as endpoint,
        CocoerClient(args.url, retries=args.retries, **connection_of(args).arguments()) as client,
    ):
        client.check_ready()
        labels = client.infer(NOTHING, []).labels
        prompt.check_labels(labels)
        questions = Questions(args.modes, prompt, labels, images_of(args), args.detail, seed=args.seed)
        asker = Asker(questions, endpoint, Cache(None if args.no_cache else args.cache))
        images = list(talk.recognised(recognise(client, found.sources, asker, thresholds_of(args), args.concurrency)))
        cost = sum((image.cost for image in images), Estimate())
        talk.cost(cost, images, args.prices)
        if args.dry_run:
            return SOME_FAILED if _failed(images) or found.problems else DONE
        cost.require_at_most(args.max_requests)
        asking = Asking(args, asker, images, talk)
        status = asking.status()
    return SOME_FAILED if status == DONE and found.problems else status


class Asking:
    """The part of a run that costs something.

    Args:
        args: the command line.
        asker: who asks.
        images: as they were recognised.
        talk: what is said.
    """

    def __init__(self, args: argparse.Namespace, asker: Asker, images: list[Recognised], talk: Talk) -> None:
        self.args, self.asker, self.images, self.talk = args, asker, images, talk
        self.record = Record(asker.questions, asker.endpoint.options, images)
        self.shown: list[Person] = []
        self.failures: list[str] = []

    def status(self) -> int:
        """Ask, write what is wanted, and say how it went: the exit status."""
        args = self.args
        subjects = people(self.images, self.asker.questions.images, args.timeout, self.failures)
        outcomes = in_order(lambda subject: (subject, self.asker.ask(subject)), subjects, args.concurrency)
        stop: Exception | KeyboardInterrupt | None = None
        try:
            with waiting(lambda: complain("interrupted; answers under way are waited for, since they are paid for")):
                for subject, asked in outcomes:
                    self._take(subject, asked)
        except (EndpointUnusable, KeyboardInterrupt) as error:
            stop = error
        for failure in self.failures:
            complain(failure)
        self._write()
        self.talk.close(self.record, self.asker.endpoint.notes, args.prices)
        if stop is None:
            failed = self.failures or self.record.failed or _failed(self.images)
            return SOME_FAILED if failed else DONE
        complain(f"{str(stop) or 'stopped'}; the same command goes on from here")
        if isinstance(stop, KeyboardInterrupt):
            return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
        return NO_SERVER

    def _take(self, subject: Subject, asked: list[Asked]) -> None:
        self.talk.tell(subject, asked, self.asker.questions.labels)
        self.record.add(subject, asked)
        if self.args.report:
            # Those that the page does not show are counted on it; their images are not kept until then.
            person = (subject, asked) if len(self.shown) < MOST else without_images(subject, asked)
            self.shown.append(person)

    def _write(self) -> None:
        asker = self.asker
        if self.args.json:
            text = json.dumps(self.record.whole(asker.endpoint.notes), indent=2) + "\n"
            if self.args.json == "-":
                sys.stdout.write(text)
                sys.stdout.flush()
            else:
                replace_file(Path(self.args.json), lambda temporary: temporary.write_text(text, encoding="utf-8"))
        if self.args.report:
            about = About(asker.questions, asker.endpoint.options, self.images, asker.endpoint.notes)
            write_report(self.args.report, self.shown, about)
            self.talk.say(f"report: {self.args.report}")


def _failed(images: list[Recognised]) -> bool:
    return any(image.error for image in images)


def _check_targets(args: argparse.Namespace, sources: list[Source]) -> None:
    named = [
        (f"--{name}", Path(value)) for name in ("json", "report") if (value := getattr(args, name)) not in (None, "-")
    ]
    inputs = [*(source.name for source in sources if source.is_file), *map(local_path, args.inputs)]
    inputs += [str(path) for path in (args.prompt, args.api_key_file) if path]
    check_files(named, inputs)
