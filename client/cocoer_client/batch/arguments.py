"""The command line of ``cocoer-batch``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from cocoer_client.command import add_server, add_thresholds, check_server, seconds, whole
from cocoer_client.connection import default_url

EPILOG = """\
exit status: 0, all images have results; 1, some have an error or are left for later; 2, wrong usage, or another job's
directory; 3, no server; 4, a server's model has changed; 130, interrupted. The same command goes on.
"""


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the program with status 2 and a message where it makes no sense."""
    parser = argparse.ArgumentParser(
        description="Recognise emotions in any number of images; results are a Parquet data set. The same command "
        "again goes on where the last one stopped, with images that were added since.",
        epilog=EPILOG,
    )
    _add_images(parser)
    _add_servers(parser)
    add_thresholds(parser.add_argument_group("recognition (default: the server's)"))
    group = parser.add_argument_group("Ray")
    group.add_argument("--workers", type=whole, default=2, metavar="N", help="Ray workers (default: 2)")
    group.add_argument("--ray-address", help="of a Ray cluster (default: this machine)")
    group.add_argument(
        "--cpus-per-worker", type=float, default=0.5, metavar="N", help="what Ray sets aside (default: 0.5)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print the final statistics as JSON")
    args = parser.parse_args(argv)
    check_server(parser, args)
    return args


def _add_images(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("inputs", nargs="+", help="folders, files, globs, here or in a bucket (s3://...), or .parquet files of names")
    add("--output", required=True, metavar="DIR", help="where results go; may be in a bucket too")
    add("--column", default="path", help="column of names in .parquet inputs (default: path)")
    add(
        "--layout",
        choices=("images", "persons"),
        default="images",
        help="a row for each image with its persons in a list (default), or a flat row for each person",
    )
    add("--shard-size", type=whole, default=256, metavar="N", help="images of one output file (default: 256)")
    add("--retry-failed", action="store_true", help="ask again about images that have an error, too")
    add(
        "--storage-option",
        action="append",
        type=_storage_option,
        default=[],
        metavar="NAME=VALUE",
        help="fsspec's, of buckets, for instance endpoint_url=http://minio:9000; secrets are better left to the "
        "environment (AWS_SECRET_ACCESS_KEY)",
    )


def _add_servers(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("servers")
    group.add_argument(
        "--url",
        type=_urls,
        default=default_url(),
        metavar="HOST:PORT,...",
        help="gRPC addresses, with commas between (default: $COCOER_URL, else localhost:8001)",
    )
    group.add_argument(
        "--concurrency",
        type=whole,
        default=16,
        metavar="N",
        help="requests on their way from a worker to a server, at most; a server that refuses gets fewer (default: 16)",
    )
    group.add_argument(
        "--patience",
        type=seconds,
        default=600.0,
        metavar="S",
        help="seconds to go on while no server answers (default: 600)",
    )
    add_server(group, timeout=60.0, retries=2)


def _urls(text: str) -> tuple[str, ...]:
    urls = tuple(dict.fromkeys(url.strip() for url in text.split(",") if url.strip()))
    if not urls:
        raise argparse.ArgumentTypeError("must be HOST:PORT, with commas between several")
    return urls


def _storage_option(text: str) -> tuple[str, Any]:
    """``anon=true``, ``client_kwargs={"region_name": "eu"}``; what is neither true, false nor an object is text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    if value in ("true", "false") or value.startswith("{"):
        try:
            return name, json.loads(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{name}: what is in braces must be JSON") from None
    return name, value
