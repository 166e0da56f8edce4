"""What the two commands share: exit statuses, request parameters."""

from __future__ import annotations

import argparse
from typing import cast

from cocoer_client.connection import given_parameters
from cocoer_client.protocol import THRESHOLDS, Thresholds

DONE, SOME_FAILED, USAGE, NO_SERVER, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit statuses."""


OPTIONS = (*THRESHOLDS, "on_damage")
"""Request parameters that the commands have options for."""
THRESHOLD_HELP = {
    "final_threshold": "final labels above this probability",
    "level_threshold": "labels of a level and of V-I above this probability",
    "min_score": "detections above this score",
}


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
