"""What has become of a run so far."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from cocoer_client.pipeline.options import RunOptions
from cocoer_client.pipeline.tasks import Outcome
from cocoer_client.reading import warnings_of
from cocoer_client.records import Record, has_failed, place_of
from cocoer_client.sources import LeftOut


@dataclass
class Totals:
    """Counts of images and frames, failures in words, and warnings.

    Args:
        options: the run's.
        failures: each with where it happened; those of inputs that are none to begin with.
        left_out: what was come across, and is no source.
    """

    options: RunOptions = field(default_factory=RunOptions)
    failures: list[str] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    images: int = 0
    """Asked and answered."""
    persons: int = 0
    skipped: int = 0
    """Done before."""
    failed_before: int = 0
    """Of ``failures``, those of an earlier run that were not asked again."""
    warnings: dict[str, str] = field(default_factory=dict)
    """Kind -> the first such warning, of what was done before, too."""
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.started

    def count(self, outcome: Outcome) -> None:
        """Add an outcome."""
        self._warn(outcome.records)
        for record in outcome.records:
            if has_failed(record):
                self.failures.append(f"{place_of(record)}: {record['error']['message']}")
                self.failed_before += not outcome.is_new
            elif outcome.is_new:
                self.images += 1
                self.persons += len(record["persons"])
            else:
                self.skipped += 1
        if outcome.not_drawn:
            name = outcome.task.source.name
            self.failures.append(f"{name}: there is a result, but no annotated image: {outcome.not_drawn}")

    def _warn(self, records: Iterable[Record]) -> None:
        for record in records:
            if not has_failed(record):
                for warning in warnings_of(record, self.options.boxes_given):
                    self.warnings.setdefault(warning.partition(":")[0], warning)
