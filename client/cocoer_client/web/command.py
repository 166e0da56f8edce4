"""``cocoer-web``: starts the gateway."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence

from cocoer_client.command import DONE, SOME_FAILED, USAGE
from cocoer_client.errors import InvalidInput
from cocoer_client.optional import needs
from cocoer_client.terminal import printable
from cocoer_client.web.arguments import parse_args, settings_of
from cocoer_client.web.keys import Keys, make_key

PACKAGES = ("fastapi", "uvicorn", "httptools", "python_multipart", "prometheus_client")

BACKLOG = 2048
"""Connections that wait to be taken."""


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
    """Serve until a signal; raises OSError where it can't listen."""
    settings = settings_of(args)
    if settings.keys:
        Keys(settings.keys)  # before anything is started
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # somebody else's figures
    # Here: they need the packages of the extra.
    from cocoer_client.web.log import LogOptions
    from cocoer_client.web.processes import serve_in_processes
    from cocoer_client.web.serve import Service, serve

    service = Service(settings, LogOptions("warning" if args.quiet else args.log_level, args.log_format), args.linger)
    with listen(args.host, args.port) as listening:
        print(begins(args, listening), flush=True)
        if args.processes > 1:
            return serve_in_processes(service, listening, args.processes)
        serve(service, listening)
    return DONE


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises OSError where there can be none."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise OSError(error.errno, f"there is no such address ({error.strerror})") from None
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # where it would let others listen too
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # At once, so that a port which another program has is told here.
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def begins(args: argparse.Namespace, listening: socket.socket) -> str:
    """What is said at the start."""
    host = "127.0.0.1" if args.host == "0.0.0.0" else "[::1]" if args.host == "::" else args.host
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    who = f"with the API keys in {args.keys}" if args.keys else "without API keys"
    return printable(
        f"http://{host}:{listening.getsockname()[1]}{args.root_path}/ {who}, in front of Triton at {args.url}"
    )


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
