"""``cocoer-web``: starts the gateway."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cocoer_client.command import DONE, SOME_FAILED, USAGE
from cocoer_client.errors import InvalidInput
from cocoer_client.optional import needs
from cocoer_client.terminal import printable
from cocoer_client.web.arguments import parse_args, settings_of
from cocoer_client.web.keys import make_key

PACKAGES = ("fastapi", "uvicorn", "httptools", "python_multipart", "prometheus_client")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    args = parse_args(argv)
    if args.make_key:
        return print_key(args.make_key)
    try:
        needs("cocoer-web", *PACKAGES, extra="web")
        return run(args)
    except InvalidInput as error:
        complain(f"error: {error}")
        return USAGE
    except OSError as error:
        complain(f"error: can't listen on {args.host}, port {args.port}: {error.strerror or error}")
        return SOME_FAILED


def run(args: argparse.Namespace) -> int:
    # Here: they need the packages of the extra.
    import uvicorn

    from cocoer_client.web.app import create_app

    uvicorn.run(create_app(settings_of(args)), host=args.host, port=args.port)
    return DONE


def print_key(name: str) -> int:
    """The line on standard output, which a shell appends to the file; the key on standard error, to be handed over."""
    key, line = make_key(name)
    print(line)
    complain(f"key of {name}, which is kept nowhere: {key}")
    return DONE


def complain(text: str) -> None:
    print(printable(text), file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
