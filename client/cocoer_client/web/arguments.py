"""The command line of ``cocoer-web``."""

from __future__ import annotations

import argparse
import ipaddress
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import shtab

from cocoer_client.command import add_file, add_server, check_server, connection_of, header, seconds, whole
from cocoer_client.connection import default_url
from cocoer_client.errors import InvalidInput
from cocoer_client.web.keys import valid_name
from cocoer_client.web.settings import Settings

EPILOG = """\
examples:
  %(prog)s                                          the page at http://127.0.0.1:8080/, Triton at localhost:8001
  %(prog)s --url triton:8001 --port 0               another Triton, a free port
  %(prog)s --make-key alice >> keys.txt             a new API key: its line to the file, the key to the screen
  %(prog)s --host 0.0.0.0 --keys keys.txt           for others, with API keys
  %(prog)s --host 0.0.0.0 --without-keys            behind something that checks callers itself
  curl -F image=@photo.jpg http://127.0.0.1:8080/v1/recognise

HTTPS is left to what stands before it: an Ingress, a load balancer, a reverse proxy.

exit status: 0 ended by SIGTERM or Ctrl-C, with what ran finished; 1 it can't listen, or its processes fail;
2 wrong usage; 130 or 143 a second signal has ended it at once.

tab completion: eval "$(cocoer-web --print-completion bash)"   (or zsh; for the installed command)
"""
RETRIES = "times to ask Triton again where it is busy or out of reach, within --timeout"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""What browsers on this machine call it."""
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
LEVELS = ("debug", "info", "warning", "error")
DEFAULT = Settings()


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Serve the REST interface and the page, in front of a running CocoER server.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_listening(parser.add_argument_group("listening"))
    _add_callers(parser.add_argument_group("callers"))
    _add_limits(parser.add_argument_group("limits (of each process)"))
    group = parser.add_argument_group("the server behind it")
    group.add_argument(
        "--url",
        default=default_url(),
        metavar="HOST:PORT",
        help="gRPC address of Triton (default: $COCOER_URL, else localhost:8001)",
    )
    add_server(group, timeout=30, retries=2, retries_help=RETRIES)
    add_file(
        group, "--header-file", "FILE", "lines of NAME:VALUE: as --header, for what the list of processes must not show"
    )
    group = parser.add_argument_group("logging")
    group.add_argument("--log-format", choices=("text", "json"), default="text", help="of each line (default: text)")
    group.add_argument(
        "--log-level", choices=LEVELS, default="info", help="info: a line for each request (default: info)"
    )
    group.add_argument("--quiet", action="store_true", help="warnings and errors only")
    shtab.add_argument_to(parser, "--print-completion", help="print a completion script for this shell, and exit")
    return parser


def _add_listening(group: argparse._ActionsContainer) -> None:
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    group.add_argument(
        "--port", type=_port, default=8080, help="port to listen on; 0: a free one, which is printed (default: 8080)"
    )
    group.add_argument(
        "--processes", type=whole, default=1, metavar="N", help="processes that share the port (default: 1)"
    )
    group.add_argument(
        "--root-path",
        type=_root_path,
        default="",
        metavar="/PATH",
        help="what paths begin with behind a reverse proxy, whether it takes that off or not (default: nothing)",
    )
    group.add_argument(
        "--linger",
        type=_not_negative,
        default=0.0,
        metavar="S",
        help="seconds after SIGTERM in which new requests are still taken while /readyz says no, so that load "
        "balancers can turn away first (default: 0)",
    )


def _add_callers(group: argparse._ActionsContainer) -> None:
    add_file(
        group,
        "--keys",
        "FILE",
        "API keys that requests need: lines of NAME KEY, or NAME sha256:HEX; read again when it changes",
    )
    group.add_argument(
        "--without-keys",
        action="store_true",
        help="ask for no keys at other addresses than loopback either: what stands before it checks callers",
    )
    group.add_argument(
        "--make-key",
        type=_key_name,
        metavar="NAME",
        help="print a line for the file of --keys with a new key, and exit",
    )
    group.add_argument(
        "--allow-origin",
        action="append",
        type=_origin,
        default=[],
        metavar="ORIGIN",
        help="let pages of this origin ask, for instance https://example.com; may be given several times",
    )
    group.add_argument(
        "--allow-host",
        action="append",
        type=_host_name,
        default=[],
        metavar="NAME",
        help="answer requests to this host only, and to localhost; may be given several times (default: localhost only "
        "on loopback without keys, else any)",
    )


def _add_limits(group: argparse._ActionsContainer) -> None:
    for option, default, text in (
        ("--max-bytes", DEFAULT.max_bytes, "of an image"),
        ("--max-uploads", DEFAULT.max_upload_bytes, "of all uploads in memory at a time"),
    ):
        group.add_argument(
            option,
            type=size,
            default=default,
            metavar="SIZE",
            help=f"bytes {text}; K, M, G (default: {default >> 20}M)",
        )
    for option, count, text in (
        ("--max-requests", DEFAULT.max_requests, "requests that are worked on at a time; the next gets 503"),
        ("--max-connections", DEFAULT.max_connections, "connections at a time"),
        ("--threads", DEFAULT.draw_threads, "images drawn at a time"),
    ):
        group.add_argument(option, type=whole, default=count, metavar="N", help=f"{text} (default: {count})")
    group.add_argument(
        "--max-per-caller",
        type=whole,
        metavar="N",
        help="requests of one name in --keys at a time; the next gets 429 (default: no limit)",
    )
    for option, time, text in (
        ("--body-timeout", DEFAULT.body_timeout, "in which a request's body has to be there"),
        ("--header-timeout", DEFAULT.header_timeout, "in which a request's head has to be there, or the next to begin"),
    ):
        group.add_argument(option, type=seconds, default=time, metavar="S", help=f"seconds {text} (default: {time:g})")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the program with status 2 and a message where it makes no sense."""
    parser = make_parser()
    args = parser.parse_args(argv)
    check_server(parser, args)
    if args.keys and args.without_keys:
        parser.error("--keys and --without-keys exclude each other")
    if not (args.keys or args.without_keys or args.make_key or is_loopback(args.host)):
        parser.error(
            f"anybody who reaches {args.host} could ask: give --keys FILE (--make-key NAME makes one), or "
            "--without-keys if what stands before it checks callers"
        )
    if args.max_per_caller and not args.keys:
        parser.error("--max-per-caller needs --keys, which tell callers from each other")
    return args


def settings_of(args: argparse.Namespace) -> Settings:
    """What the options say.

    Raises:
        InvalidInput: the file of --header-file can't be used.
    """
    connection = connection_of(args)
    if args.header_file:
        connection = replace(connection, headers={**connection.headers, **_read_headers(args.header_file)})
    hosts = tuple(args.allow_host)
    if hosts or not (args.keys or args.without_keys):
        hosts = (*hosts, *LOOPBACK)
    return Settings(
        url=args.url,
        connection=connection,
        retries=args.retries,
        keys=args.keys,
        origins=tuple(args.allow_origin),
        hosts=hosts,
        root_path=args.root_path,
        max_bytes=args.max_bytes,
        max_requests=args.max_requests,
        max_per_caller=args.max_per_caller,
        max_upload_bytes=args.max_uploads,
        body_timeout=args.body_timeout,
        header_timeout=args.header_timeout,
        max_connections=args.max_connections,
        draw_threads=args.threads,
    )


def _read_headers(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
        return dict(header(line) for line in lines if line.strip() and not line.startswith("#"))
    except (OSError, UnicodeDecodeError, argparse.ArgumentTypeError) as error:
        why = error.strerror if isinstance(error, OSError) else "its lines must be NAME:VALUE"
        raise InvalidInput(f"can't use --header-file {path}: {why}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def size(text: str) -> int:
    """Bytes.

    >>> size("32M"), size("1000")
    (33554432, 1000)
    """
    match = re.fullmatch(r"(\d+)([KMG]?)i?B?", text, re.IGNORECASE)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"must be a number of bytes from 1, with or without K, M or G, got {text}")
    return int(match[1]) * UNITS[match[2].upper()]


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 1 << 16:
        raise argparse.ArgumentTypeError(f"must be 0 to 65535, got {text}")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be 0 seconds or more, got {text}")
    return value


def _root_path(text: str) -> str:
    path = text.rstrip("/")
    if path and not re.fullmatch(r"(/[\w.~-]+)+", path):
        raise argparse.ArgumentTypeError(f"must be a path such as /cocoer, got {text}")
    return path


def _origin(text: str) -> str:
    """As browsers send it: scheme, host and port, nothing else.

    >>> _origin("https://Example.com/")
    'https://example.com'
    """
    origin = text.lower().removesuffix("/")
    if not re.fullmatch(r"https?://(\[[0-9a-f:.]+\]|[\w.-]+)(:\d+)?", origin):
        raise argparse.ArgumentTypeError(f"must be an origin such as https://example.com, got {text}; '*' is not one")
    return origin


def _host_name(text: str) -> str:
    name = text.lower()
    if not re.fullmatch(r"\[[0-9a-f:.]+\]|[\w.-]+", name):
        raise argparse.ArgumentTypeError(f"must be a host's name without a port, got {text}")
    return name


def _key_name(text: str) -> str:
    if not valid_name(text):
        raise argparse.ArgumentTypeError("must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    return text
