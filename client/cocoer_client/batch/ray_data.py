"""Shards on Ray Data: its start, its silence, its workers. Imports Ray."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from cocoer_client.batch.job import Work
from cocoer_client.batch.shards import ToDo
from cocoer_client.batch.worker import Recogniser

# Before Ray is imported: nothing is reported to its makers, and CPU workers keep their environment.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def start_ray(args: argparse.Namespace) -> Any:
    """Ray and its data, connected, and silent."""
    import ray
    from ray.data import DataContext

    here = {"include_dashboard": False, "num_cpus": max(os.cpu_count() or 1, args.workers)}
    ray.init(
        args.ray_address,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
        **({} if args.ray_address else here),
    )
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it raises as well
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.verbose_progress = False
    return ray


@contextlib.contextmanager
def rays_core_silent() -> Iterator[None]:
    """Keep what Ray's C++ core writes to descriptor 2 off the terminal (its log has it); Python goes on there."""
    with open(os.devnull, "w") as nothing, os.fdopen(os.dup(2), "w", buffering=1) as terminal:
        before, sys.stderr = sys.stderr, terminal
        os.dup2(nothing.fileno(), 2)
        try:
            # Some of what Ray says goes to standard output, which is the statistics'.
            with contextlib.redirect_stdout(terminal):
                yield
        finally:
            os.dup2(terminal.fileno(), 2)
            sys.stderr = before


def run_shards(
    ray: Any, shards: Sequence[ToDo], work: Work, workers: int, cpus_per_worker: float
) -> Iterator[dict[str, Any]]:
    """The workers' figures of each shard, as shards are done; Ray hands a dead worker's shard to another."""
    items = [to_do.task for to_do in shards]
    # A block for each shard: what is handed out, and handed out again, is one.
    data = ray.data.from_items(items, override_num_blocks=len(items)).map(
        Recogniser,
        fn_constructor_args=(work,),
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(items))),
        num_cpus=cpus_per_worker,
    )
    yield from data.iter_rows()
