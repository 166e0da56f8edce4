"""What the two commands, ``infer.py`` and ``batch.py``, share: exit statuses, thresholds."""

from __future__ import annotations

import argparse

from cocoer_client.connection import given_parameters

DONE, SOME_FAILED, USAGE, NO_SERVER, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit statuses."""
THRESHOLDS = ("final_threshold", "level_threshold", "min_score")
"""Request parameters that are options of both: ``--final-threshold`` and so on."""


def thresholds_of(args: argparse.Namespace) -> dict[str, float]:
    """Those that are given."""
    return given_parameters({name: getattr(args, name) for name in THRESHOLDS})
