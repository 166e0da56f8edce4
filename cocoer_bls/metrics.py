"""What ``cocoer`` counts, on Triton's own metrics endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cocoer_bls.errors import REASONS

STAGES = ("decode", "letterbox", "detection", "match", "windows", "recognition", "result")
FAILURES = ("internal", "memory", "cancelled")
BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
"""Upper bounds of the histogram, seconds."""

PROBE = "cocoer-probe"
"""The request id of those who only ask whether the server answers; they are counted apart."""

COUNTERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "cocoer_images_total": ("Images answered with a result", "", ()),
    "cocoer_persons_total": ("Persons in the results", "", ()),
    "cocoer_empty_results_total": ("Results without a person", "", ()),
    "cocoer_rejected_total": ("Images or requests refused for what is wrong with them", "reason", REASONS),
    "cocoer_failed_total": ("Images not answered through no fault of theirs", "reason", FAILURES),
    "cocoer_probes_total": ("Images of probes, which no other counter has", "outcome", ("answered", "failed")),
}
"""Name -> help, name of the label, its values."""


class Metrics:
    """Counters, and a histogram of the stages' seconds; every series exists, at zero, from the start.

    Args:
        family_class: ``pb_utils.MetricFamily``.
        instance: Triton's name of this instance of ``cocoer``.
    """

    def __init__(self, family_class: Any, instance: str) -> None:
        self.series: dict[tuple[str, str], Any] = {}
        self.steps = 0
        self.families: list[Any] = []  # kept: a series ends with its family
        for name, (text, label, values) in COUNTERS.items():
            family = family_class(name=name, description=text, kind=family_class.COUNTER)
            self.families.append(family)
            for value in values or ("",):
                self.series[name, value] = family.Metric(labels={label: value} if label else {})
        text = "Requests being worked on; with Triton's pending ones, all that are accepted"
        family = family_class(name="cocoer_requests_running", description=text, kind=family_class.GAUGE)
        self.families.append(family)
        self.busy = family.Metric(labels={})
        text = "Grows with each call of an instance to another model, 0 while it has no requests: a hang stands still"
        family = family_class(name="cocoer_instance_step", description=text, kind=family_class.GAUGE)
        self.families.append(family)
        # Not "instance": Prometheus calls the server so.
        self.step = family.Metric(labels={"name": instance})
        name = "cocoer_stage_seconds"
        family = family_class(name=name, description="Time of an image in a stage", kind=family_class.HISTOGRAM)
        self.families.append(family)
        for stage in STAGES:
            self.series[name, stage] = family.Metric(labels={"stage": stage}, buckets=BUCKETS)

    @contextmanager
    def running(self, requests: int) -> Iterator[None]:
        """Requests that are being worked on during the block."""
        self.busy.increment(requests)
        self.stepped()
        try:
            yield
        finally:
            self.step.set(0)
            self.busy.increment(-requests)

    def stepped(self) -> None:
        """This instance goes on."""
        self.steps += 1
        self.step.set(self.steps)

    def answered(self, request_id: str, persons: int, timing: Mapping[str, float]) -> None:
        """A result: its persons, and the milliseconds of its stages."""
        if request_id == PROBE:
            self._count("cocoer_probes_total", "answered")
            return
        self._count("cocoer_images_total")
        if persons:
            self._count("cocoer_persons_total", amount=persons)
        else:
            self._count("cocoer_empty_results_total")
        for stage, milliseconds in timing.items():
            self.series["cocoer_stage_seconds", stage].observe(milliseconds / 1000)

    def not_answered(self, request_id: str, reason: str) -> None:
        """A refusal or a failure; ``reason`` as ``errors.describe`` gives it."""
        if request_id == PROBE:
            self._count("cocoer_probes_total", "failed")
            return
        self._count("cocoer_rejected_total" if reason in REASONS else "cocoer_failed_total", reason)

    def _count(self, name: str, label: str = "", amount: int = 1) -> None:
        self.series[name, label].increment(amount)
