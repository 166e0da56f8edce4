"""The command line of ``cocoer-batch``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cocoer_client.command import add_thresholds
from cocoer_client.connection import default_url


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the program with status 2 and a message where it makes no sense."""
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
        help="requests on their way from a worker to a server, at most; a server that refuses gets fewer (default: 16)",
    )
    add("--shard-size", type=_count, default=256, metavar="N", help="images of one output file (default: 256)")
    add("--timeout", type=float, default=60.0, help="seconds for an answer (default: 60)")
    add("--patience", type=float, default=600.0, help="seconds to go on with no server in reach (default: 600)")
    add_thresholds(parser.add_argument_group("recognition (default: the server's)"))
    add("--ray-address", help="of a Ray cluster (default: this machine)")
    add("--cpus-per-worker", type=float, default=0.5, metavar="N", help="what Ray sets aside (default: 0.5)")
    add("--quiet", action="store_true", help="no progress")
    add("--json", action="store_true", help="print the final statistics as JSON")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError
    return value
