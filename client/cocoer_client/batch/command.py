"""Recognise emotions in any number of images, by one or many servers, on Ray Data: ``python client/batch.py --help``.

Killed, crashed or interrupted: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

# Before Ray is imported: nothing is reported to its makers, and CPU workers keep their environment.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

from tqdm import tqdm  # noqa: E402

from cocoer_client.command import (  # noqa: E402
    DONE,
    INTERRUPTED,
    NO_SERVER,
    SOME_FAILED,
    THRESHOLDS,
    USAGE,
    thresholds_of,
)
from cocoer_client.connection import default_url  # noqa: E402
from cocoer_client.errors import InvalidInput  # noqa: E402
from cocoer_client.optional import needs  # noqa: E402

COUNTS = ("pictures", "failed", "persons", "refused", "unreachable", "tried_again")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Recognise emotions in any number of images; results are a Parquet data set. The same command "
        "again goes on where the last one stopped, with images that were added since."
    )
    add = parser.add_argument
    add("inputs", nargs="+", help="folders, files, globs, here or in a bucket (s3://...), or .parquet files of names")
    add("--output", required=True, metavar="DIR", help="where results go; may be in a bucket too")
    add("--column", default="path", help="column of names in .parquet inputs (default: path)")
    add("--url", default=default_url(), help="host:port of servers, with commas between (default: $COCOER_URL)")
    add("--workers", type=_count, default=2, help="Ray workers (default: 2)")
    add(
        "--concurrency",
        type=_count,
        default=16,
        help="most requests on their way from a worker to a server; a server that refuses gets fewer (default: 16)",
    )
    add("--shard-size", type=_count, default=256, metavar="N", help="images of one output file (default: 256)")
    add("--timeout", type=float, default=60.0, help="seconds for an answer (default: 60)")
    add("--patience", type=float, default=600.0, help="seconds to go on with no server in reach (default: 600)")
    for name in THRESHOLDS:
        add(f"--{name.replace('_', '-')}", type=float, help="as cocoer-infer's")
    add("--ray-address", help="of a Ray cluster (default: this machine)")
    add("--cpus-per-worker", type=float, default=0.5, metavar="N", help="what Ray sets aside (default: 0.5)")
    add("--quiet", action="store_true", help="no progress")
    add("--json", action="store_true", help="print the final statistics as JSON")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError
    return value


def start_ray(args: argparse.Namespace) -> Any:
    """Ray and its data, connected, and silent."""
    import ray
    from ray.data import DataContext

    here = {"include_dashboard": False, "num_cpus": max(os.cpu_count() or 1, args.workers)}
    ray.init(
        args.ray_address,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
        **({} if args.ray_address else here),
    )
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it raises as well
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.verbose_progress = False
    return ray


@contextlib.contextmanager
def rays_core_silent() -> Iterator[None]:
    """Keep what Ray's C++ core writes to descriptor 2 off the terminal (its log has it); Python goes on there."""
    with open(os.devnull, "w") as nothing, os.fdopen(os.dup(2), "w", buffering=1) as terminal:
        before, sys.stderr = sys.stderr, terminal
        os.dup2(nothing.fileno(), 2)
        try:
            # Some of what Ray says goes to standard output, which is the statistics'.
            with contextlib.redirect_stdout(terminal):
                yield
        finally:
            os.dup2(terminal.fileno(), 2)
            sys.stderr = before


def run_shards(ray: Any, shards: Sequence[Any], args: argparse.Namespace, options: dict[str, Any]) -> Iterator[Any]:
    """The workers' figures of each shard, as shards are done; Ray hands a dead worker's shard to another."""
    from cocoer_client.batch.worker import Recogniser

    items = [{"number": shard.number, "paths": list(shard.paths)} for shard in shards]
    # A block for each shard: what is handed out, and handed out again, is one.
    data = ray.data.from_items(items, override_num_blocks=len(items)).map(
        Recogniser,
        fn_constructor_args=(args.url.split(","), args.output, args.concurrency, args.timeout, args.patience, options),
        compute=ray.data.ActorPoolStrategy(size=min(args.workers, len(items))),
        num_cpus=args.cpus_per_worker,
    )
    yield from data.iter_rows()


def run(args: argparse.Namespace) -> int:
    from cocoer_client.batch.shards import Output, list_images

    options = thresholds_of(args)
    output = Output(args.output)
    shards = output.begin(list_images(args.inputs, args.column), args.shard_size, options)
    done = output.done()
    left = [shard for shard in shards if shard.number not in done]
    total = sum(len(shard.paths) for shard in shards)
    before = total - sum(len(shard.paths) for shard in left)
    statistics: dict[str, Any] = {"output": args.output, "total": total, "done_before": before}
    statistics |= dict.fromkeys(COUNTS, 0)
    started = time.monotonic()
    if left:
        hidden = args.quiet or not sys.stderr.isatty()
        with rays_core_silent(), tqdm(total=total, initial=before, unit="image", disable=hidden) as bar:
            ray = start_ray(args)
            try:
                for figures in run_shards(ray, left, args, options):
                    for name in COUNTS:
                        statistics[name] += int(figures[name])
                    bar.set_postfix(failed=statistics["failed"], refused=statistics["refused"])
                    bar.update(int(figures["pictures"]))
            finally:
                ray.shutdown()
    seconds = time.monotonic() - started
    statistics |= {"seconds": round(seconds, 1), "pictures_per_second": round(statistics["pictures"] / seconds, 2)}
    print(json.dumps(statistics) if args.json else describe(statistics))
    return SOME_FAILED if statistics["failed"] else DONE


def describe(statistics: dict[str, Any]) -> str:
    """The final statistics for people."""
    s = statistics
    lines = [
        f"{s['pictures']} images with {s['persons']} persons in {s['seconds']:.0f} s "
        f"({s['pictures_per_second']:.1f} per second), {s['failed']} failed; {s['done_before']} were done before.",
        f"Results of all {s['total']}: {s['output']}",
    ]
    if s["failed"]:
        lines.append("Column error says why an image has no result.")
    if s["refused"] or s["unreachable"] or s["tried_again"]:
        lines.append(
            f"Servers were full {s['refused']} times, out of reach {s['unreachable']} times, and failed "
            f"{s['tried_again']} times; what they had refused was asked again."
        )
    return "\n".join(lines)


def no_server_in(error: BaseException) -> str:
    """What a worker said when it gave up waiting for servers; empty for another error."""
    lines = [line for line in str(error).splitlines() if "NoServer:" in line]
    return lines[-1].partition("NoServer:")[2].strip() if lines else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    args = parse_args(argv)
    try:
        needs("cocoer-batch", "ray", "pyarrow", "fsspec", extra="batch")
        return run(args)
    except InvalidInput as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not (told := no_server_in(error)):
            raise
        print(f"error: {told}. The same command goes on from here", file=sys.stderr)
        return NO_SERVER


if __name__ == "__main__":
    raise SystemExit(main())
