"""Recognise emotions in any number of images, by one or many servers, on Ray Data: ``cocoer-batch --help``.

Killed, crashed or interrupted: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from cocoer_client.batch.arguments import parse_args
from cocoer_client.batch.statistics import Statistics
from cocoer_client.command import (
    DONE,
    INTERRUPTED,
    MODEL_CHANGED,
    NO_SERVER,
    SOME_FAILED,
    USAGE,
    connection_of,
    thresholds_of,
)
from cocoer_client.errors import CocoerError, InvalidInput, InvalidRequest, ModelChanged, ServerError
from cocoer_client.optional import needs
from cocoer_client.terminal import printable

if TYPE_CHECKING:
    from cocoer_client.batch.job import Work
    from cocoer_client.batch.lease import Lease
    from cocoer_client.batch.shards import Output, Shard, ToDo
    from cocoer_client.batch.storage import Storage


def run(args: argparse.Namespace) -> int:
    # Here: they need the packages of the extra.
    from cocoer_client.batch.paths import list_images
    from cocoer_client.batch.shards import Output
    from cocoer_client.batch.storage import Storage

    storage = Storage(dict(args.storage_option))
    output = Output(args.output, storage)
    paths, found = list_images(args.inputs, args.column, storage)
    lease = output.lease()
    with lease.held():
        work = agreed(args, storage)
        shards = output.begin(paths, args.shard_size, work.job)
        statistics, left = plan(args, output, shards)
        if left:
            recognise(args, work, left, statistics, lease)
        statistics.found(found)
        for shard in output.files().left:
            statistics.remains(output.left(shard))
    print(statistics.as_json() if args.json else statistics.describe())
    for problem in found.problems:
        complain(f"error: {problem}")
    return SOME_FAILED if statistics.failed or statistics.left or found.problems else DONE


def agreed(args: argparse.Namespace, storage: Storage) -> Work:
    """What the workers do, once the servers have said which model they have and that they take the options."""
    from cocoer_client.batch.agreement import agree
    from cocoer_client.batch.job import Job, Work
    from cocoer_client.key import ResultKey

    options, connection = thresholds_of(args), connection_of(args)
    servers = agree(args.url, connection, options, args.patience, complain)
    for url, why in servers.silent.items():
        complain(f"{url} does not answer, and is asked again later: {why}")
    return Work(
        job=Job(ResultKey.of(servers.model.model_dump(mode="json"), **options), servers.labels, args.layout),
        output=args.output,
        urls=args.url,
        model=servers.model,
        options=options,
        connection=connection,
        storage=storage,
        concurrency=args.concurrency,
        retries=args.retries,
        patience=args.patience,
        retry_failed=args.retry_failed,
    )


def plan(args: argparse.Namespace, output: Output, shards: Sequence[Shard]) -> tuple[Statistics, list[ToDo]]:
    """Statistics of what is done, and what is left to do of which shards."""
    from cocoer_client.batch.paths import shown
    from cocoer_client.batch.shards import ToDo

    files = output.files()
    asked_again = files.parts if args.retry_failed else files.parts & files.left
    statistics, left = Statistics(args.output), []
    for shard in shards:
        done: set[str] = set()
        if shard.number in asked_again:
            done = output.done(shard.number, but_failed=args.retry_failed)
        elif shard.number in files.parts:
            done = set(map(shown, shard.paths))
        to_do = ToDo(shard, tuple(path for path in shard.paths if shown(path) not in done))
        statistics.total += len(shard.paths)
        statistics.done_before += len(shard.paths) - len(to_do.paths)
        if to_do.paths or shard.number in files.left:  # whose list may say too much
            left.append(to_do)
    return statistics, left


def recognise(
    args: argparse.Namespace, work: Work, shards: Sequence[ToDo], statistics: Statistics, lease: Lease
) -> None:
    """Have the workers do what there is to do of shards.

    Raises:
        NoServer, ModelChanged, CantWrite, LeaseLost: the job has ended before its end.
    """
    from cocoer_client.batch.ray_data import rays_core_silent, run_shards, start_ray
    from cocoer_client.batch.server_pool import NoServer
    from cocoer_client.batch.worker import CantWrite

    ends = {kind.__name__: kind for kind in (NoServer, ModelChanged, CantWrite)}
    hidden = args.quiet or not sys.stderr.isatty()
    progress = tqdm(total=statistics.total, initial=statistics.done_before, unit="image", disable=hidden)
    with rays_core_silent(), progress as bar:
        ray = start_ray(args)
        try:
            for figures in run_shards(ray, shards, work, args.workers, args.cpus_per_worker):
                if figures["ended"]:
                    raise ends[figures["ended"]](figures["told"])
                lease.check()
                statistics.add(figures)
                bar.set_postfix(failed=statistics.failed, refused=statistics.refused)
                bar.update(int(figures["pictures"]))
        finally:
            ray.shutdown()


def complain(text: str) -> None:
    print(printable(text), file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    args = parse_args(argv)
    try:
        needs("cocoer-batch", "ray", "pyarrow", "fsspec", extra="batch")
        return run(args)
    except (InvalidInput, InvalidRequest) as error:
        complain(f"error: {error}")
        return USAGE
    except KeyboardInterrupt:
        complain("interrupted; the same command goes on from here")
        return INTERRUPTED
    except ModelChanged as error:
        complain(
            f"error: {error}. Nothing of it was kept. With the model of before, the same command goes on from here; "
            "results of another one need another directory"
        )
        return MODEL_CHANGED
    except (CocoerError, OSError) as error:
        from cocoer_client.batch.server_pool import NoServer

        complain(f"error: {error}. The same command goes on from here")
        return NO_SERVER if isinstance(error, (NoServer, ServerError)) else SOME_FAILED


if __name__ == "__main__":
    raise SystemExit(main())
