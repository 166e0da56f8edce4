"""What the commands share: exit statuses, request parameters, how a server is reached."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import shtab

from cocoer_client.connection import TLS, given_parameters
from cocoer_client.protocol import THRESHOLDS, Thresholds

DONE, SOME_FAILED, USAGE, NO_SERVER, MODEL_CHANGED, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""Exit statuses."""
NO_READER, TERMINATED = 141, 143
"""What a shell says of a program that a signal has ended."""


OPTIONS = (*THRESHOLDS, "on_damage", "fast_decode")
"""Request parameters that the commands have options for."""
THRESHOLD_HELP = {
    "final_threshold": "final labels above this probability",
    "level_threshold": "labels of a level and of V-I above this probability",
    "min_score": "detections above this score",
}


def add_thresholds(parser: argparse._ActionsContainer) -> None:
    """``--final-threshold`` and so on, ``--on-damage`` and ``--fast-decode``; what is not given is the server's."""
    for name in THRESHOLDS:
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=float, metavar="P", help=THRESHOLD_HELP[name])
    parser.add_argument(
        "--on-damage", choices=("refuse", "accept"), help="damaged images: refuse them, or use what there is of them"
    )
    parser.add_argument(
        "--fast-decode",
        action=argparse.BooleanOptionalAction,
        help="have large JPEGs decoded smaller where no crop would be enlarged: faster, not to the same bytes",
    )


def thresholds_of(args: argparse.Namespace) -> Thresholds:
    """Those that are given."""
    return cast(Thresholds, given_parameters({name: getattr(args, name) for name in OPTIONS}))


@dataclass(frozen=True)
class Connection:
    """How a server is reached; neither headers nor keys are in its ``repr``, which logs may hold.

    Args:
        timeout: seconds to wait for an answer.
        tls: None: no encryption.
        headers: of every call.
    """

    timeout: float = 30.0
    tls: TLS | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def arguments(self) -> dict[str, Any]:
        """Of a client's constructor."""
        return {"timeout": self.timeout, "tls": self.tls, "headers": self.headers}


RETRIES = (
    "times to ask again about an image that servers fail at, or don't answer in time; that they are busy, or out of "
    "reach, does not count"
)


def add_server(group: argparse._ActionsContainer, timeout: float, retries: int, retries_help: str = RETRIES) -> None:
    """``--timeout``, ``--retries``, ``--header``, ``--tls-ca`` and so on.

    Args:
        group: where they are added.
        timeout: the default, in seconds.
        retries: the default.
        retries_help: what is tried again.
    """
    group.add_argument(
        "--timeout",
        type=seconds,
        default=timeout,
        metavar="S",
        help=f"seconds to wait for an answer (default: {timeout:g})",
    )
    group.add_argument(
        "--retries",
        type=_not_negative,
        default=retries,
        metavar="N",
        help=f"{retries_help} (default: {retries})",
    )
    group.add_argument(
        "--header", action="append", type=header, default=[], metavar="NAME:VALUE", help="send this with each request"
    )
    for name, text in (
        ("--tls-ca", "encrypt, and trust servers certified by this authority"),
        ("--tls-cert", "this client's certificate, where the server wants one"),
        ("--tls-key", "its key"),
    ):
        add_file(group, name, "PEM", text)


def add_file(
    group: argparse._ActionsContainer, name: str, metavar: str, text: str, kind: Callable[[str], Any] = Path
) -> None:
    """An option that names a file, which shells complete."""
    group.add_argument(name, type=kind, metavar=metavar, help=text).complete = shtab.FILE  # type: ignore[attr-defined]


def check_server(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the program where options of ``add_server`` make no sense together."""
    if bool(args.tls_cert) != bool(args.tls_key):
        parser.error("--tls-cert and --tls-key go together")


def connection_of(args: argparse.Namespace) -> Connection:
    """What the options of ``add_server`` say."""
    tls = TLS(args.tls_ca, args.tls_cert, args.tls_key) if args.tls_ca or args.tls_cert else None
    return Connection(args.timeout, tls, dict(args.header))


def whole(text: str) -> int:
    """A number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {text}")
    return value


def seconds(text: str) -> float:
    """A length of time."""
    value = float(text)
    if not value > 0 or math.isinf(value):
        raise argparse.ArgumentTypeError(f"must be more than 0 seconds, got {text}")
    return value


def _not_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {text}")
    return value


def header(text: str) -> tuple[str, str]:
    """``NAME:VALUE``."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        # Not the text: it may be a credential, and this message lands in logs.
        raise argparse.ArgumentTypeError("must be NAME:VALUE")
    return name.strip(), value.strip()
