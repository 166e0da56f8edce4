"""What the two commands share: exit statuses, request parameters."""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import cast

from cocoer_client.connection import given_parameters
from cocoer_client.protocol import THRESHOLDS, Thresholds

DONE, SOME_FAILED, USAGE, NO_SERVER, MODEL_CHANGED, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""Exit statuses."""
NO_READER, TERMINATED = 141, 143
"""What a shell says of a program that a signal has ended."""


OPTIONS = (*THRESHOLDS, "on_damage")
"""Request parameters that the commands have options for."""
THRESHOLD_HELP = {
    "final_threshold": "final labels above this probability",
    "level_threshold": "labels of a level and of V-I above this probability",
    "min_score": "detections above this score",
}


class Terminated(KeyboardInterrupt):
    """Another program, not the keyboard, wants an end of it."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Around a run: a request to terminate is raised as ``Terminated``, so that files are completed or removed."""

    def terminate(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def add_thresholds(parser: argparse._ActionsContainer) -> None:
    """``--final-threshold`` and so on, and ``--on-damage``; what is not given is the server's."""
    for name in THRESHOLDS:
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=float, metavar="P", help=THRESHOLD_HELP[name])
    parser.add_argument(
        "--on-damage", choices=("refuse", "accept"), help="damaged images: refuse them, or use what there is of them"
    )


def thresholds_of(args: argparse.Namespace) -> Thresholds:
    """Those that are given."""
    return cast(Thresholds, given_parameters({name: getattr(args, name) for name in OPTIONS}))
