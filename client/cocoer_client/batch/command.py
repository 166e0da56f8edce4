"""Recognise emotions in any number of images, by one or many servers, on Ray Data: ``cocoer-batch --help``.

Killed, crashed or interrupted: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from cocoer_client.batch.arguments import parse_args
from cocoer_client.command import DONE, INTERRUPTED, NO_SERVER, SOME_FAILED, USAGE, thresholds_of
from cocoer_client.errors import InvalidInput
from cocoer_client.optional import needs
from cocoer_client.sources import LeftOut
from cocoer_client.terminal import printable

COUNTS = ("pictures", "failed", "persons", "refused", "unreachable", "tried_again")


def run(args: argparse.Namespace) -> int:
    # Here: they need the packages of the extra.
    from cocoer_client.batch.ray_data import rays_core_silent, run_shards, start_ray
    from cocoer_client.batch.shards import Output, list_images

    options = thresholds_of(args)
    output = Output(args.output)
    images, found = list_images(args.inputs, args.column)
    shards = output.begin(images, args.shard_size, options)
    done = output.done()
    left = [shard for shard in shards if shard.number not in done]
    total = sum(len(shard.paths) for shard in shards)
    before = total - sum(len(shard.paths) for shard in left)
    statistics: dict[str, Any] = {"output": args.output, "total": total, "done_before": before}
    statistics |= dict.fromkeys(COUNTS, 0)
    statistics |= {"left_out": dict(found.left_out.counts), "problems": found.problems}
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
    for problem in found.problems:
        print(f"error: {printable(problem)}", file=sys.stderr)
    return SOME_FAILED if statistics["failed"] or found.problems else DONE


def describe(statistics: dict[str, Any]) -> str:
    """The final statistics for people."""
    s = statistics
    lines = [
        f"{s['pictures']} images with {s['persons']} persons in {s['seconds']:.0f} s "
        f"({s['pictures_per_second']:.1f} per second), {s['failed']} failed; {s['done_before']} were done before.",
        f"Results of all {s['total']}: {printable(s['output'])}",
    ]
    if s["failed"]:
        lines.append("Column error says why an image has no result.")
    if left_out := LeftOut(Counter(s["left_out"])).line():
        lines.append(f"{left_out[0].upper()}{left_out[1:]}.")
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
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not (told := no_server_in(error)):
            raise
        print(f"error: {printable(told)}. The same command goes on from here", file=sys.stderr)
        return NO_SERVER


if __name__ == "__main__":
    raise SystemExit(main())
