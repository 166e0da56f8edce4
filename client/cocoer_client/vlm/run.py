"""A run of ``cocoer-vlm``: recognise, tell the cost, ask, write."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Generator, Iterable
from pathlib import Path

from cocoer_client.client import CocoerClient
from cocoer_client.command import DONE, NO_SERVER, SOME_FAILED, connection_of, thresholds_of
from cocoer_client.errors import CocoerError, InvalidInput
from cocoer_client.files import replace_file
from cocoer_client.ordered import in_order
from cocoer_client.sources import Source, find
from cocoer_client.vlm.arguments import endpoint_of, images_of
from cocoer_client.vlm.asking import Asked, Questions, Subject, ask_in_modes, estimate
from cocoer_client.vlm.cache import Cache
from cocoer_client.vlm.cost import Estimate
from cocoer_client.vlm.endpoint import Endpoint, EndpointUnusable
from cocoer_client.vlm.people import Recognised, recognise, subjects_of
from cocoer_client.vlm.privacy import check_destination
from cocoer_client.vlm.prompt import Prompt
from cocoer_client.vlm.record import Record
from cocoer_client.vlm.report import About, write_report
from cocoer_client.vlm.talk import Talk, complain


def run(args: argparse.Namespace) -> int:
    """The exit status.

    Raises:
        InvalidInput: wrong usage.
        ServerUnavailable: no CocoER.
    """
    prompt = Prompt.load(args.prompt)
    if args.show_prompt:
        print(prompt.text, end="")
        return DONE
    if not args.dry_run:
        check_destination(args.base_url, args.send_images_to)
    endpoint_options = endpoint_of(args)
    found = find(args.inputs)
    sources = _images(found.sources)
    talk = Talk(args)
    for problem in found.problems:
        complain(problem)
    recognised = _recognised(args, sources)
    labels = next((tuple(one.result["labels"]) for one in recognised if one.result), ())
    questions = Questions(prompt, labels, images_of(args), args.detail, args.collage)
    record = Record(args.modes, questions, endpoint_options)
    cache = Cache(None if args.no_cache else args.cache)
    with Endpoint(endpoint_options) as endpoint:
        cost = sum(
            (estimate(one, args.modes, questions, endpoint, cache) for one in people(recognised, args)), Estimate()
        )
        talk.cost(cost)
        if args.dry_run:
            return DONE
        if args.max_requests is not None and cost.requests > args.max_requests:
            raise InvalidInput(f"{cost.requests} requests are more than --max-requests {args.max_requests}")
        status = SOME_FAILED if found.problems or any(one.error for one in recognised) else DONE
        kept: list[tuple[Subject, list[Asked]]] = []

        def work(subject: Subject) -> tuple[Subject, list[Asked]]:
            return subject, ask_in_modes(subject, args.modes, questions, endpoint, cache)

        try:
            for subject, asked in in_order(work, people(recognised, args), args.concurrency):
                talk.tell(subject, asked, labels)
                record.add(subject, asked)
                kept.append((subject, asked))
                if any(one.answer.kind == "failed" for one in asked):
                    status = SOME_FAILED
        except EndpointUnusable as error:
            complain(str(error))
            status = NO_SERVER
    if args.json:
        _write(args.json, json.dumps(record.whole(recognised), indent=2) + "\n")
    if args.report:
        write_report(args.report, kept, About(args.modes, questions, endpoint_options, recognised))
    talk.close(record)
    return status


def people(recognised: Iterable[Recognised], args: argparse.Namespace) -> Generator[Subject, None, None]:
    """All persons, each image read and cut when its turn comes."""
    for image in recognised:
        try:
            yield from subjects_of(image, images_of(args), args.timeout)
        except CocoerError as error:
            complain(f"{image.source.name}: {error}")


def _images(sources: list[Source]) -> list[Source]:
    videos = [source.name for source in sources if source.is_video]
    if videos:
        raise InvalidInput(f"{videos[0]} is a video; cocoer-vlm asks about images")
    return sources


def _recognised(args: argparse.Namespace, sources: list[Source]) -> list[Recognised]:
    with CocoerClient(args.url, retries=args.retries, **connection_of(args).arguments()) as client:
        client.check_ready()
        found = list(recognise(client, sources, thresholds_of(args), args.concurrency, args.timeout))
    for one in found:
        if one.error:
            complain(f"{one.source.name}: {one.error}")
    return found


def _write(target: str, text: str) -> None:
    if target == "-":
        sys.stdout.write(text)
        return
    replace_file(Path(target), lambda temporary: temporary.write_text(text, encoding="utf-8"))
