"""Running each model against the reference it came from, before it replaces another."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from export.graphs.comparison import Compare
from export.models import Model
from export.models.base import Tolerance
from export.models.samples import SAMPLE_PERSONS, Samples

BATCHES = (1, len(SAMPLE_PERSONS))


@dataclass(frozen=True)
class Parity:
    """How far a model is from its reference."""

    max_error: float
    """Largest error found, see ``error``; the tolerance that would have been enough."""
    worst: str
    """Where: tensor, input and batch size."""
    tolerance: float
    default: float | None = None
    """What the user set ``tolerance`` instead of; None: the user did not set it."""

    @property
    def passed(self) -> bool:
        return self.max_error <= self.tolerance

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "passed": self.passed}


def error(value: np.ndarray, reference: np.ndarray) -> float:
    """Largest absolute error, scaled down where the reference's largest value is over 10: as if it were 10."""
    if value.shape != reference.shape or value.dtype != reference.dtype:
        return float("inf")
    difference = np.abs(value.astype(np.float64) - reference.astype(np.float64)).max(initial=0.0)
    scaled = difference / max(1.0, np.abs(reference).max(initial=0.0) / 10)
    return float(scaled) if np.isfinite(scaled) else float("inf")


def verify(model: Model, compare: Compare, samples: Samples, tolerance: Tolerance) -> Parity:
    """Compare on random and real input at two batch sizes."""
    errors: dict[str, float] = {}
    for batch in BATCHES:
        kinds = {
            "random": model.example_inputs(images=batch, persons=batch + 1, seed=batch),
            "real": model.sample_inputs(samples, batch),
        }
        for kind, inputs in kinds.items():
            for name, (value, expected) in compare(inputs).items():
                errors[f"{name}, {kind} input, batch {batch}"] = error(value, expected)
    worst = max(errors, key=lambda key: errors[key])
    return Parity(errors[worst], worst, *tolerance)


def too_far(model: Model, parity: Parity, against: str = "") -> str:
    """What is wrong with a model that did not pass, and what the user can do.

    Args:
        model: the model.
        parity: of it.
        against: what its reference is, with a space before it.
    """
    text = f"error {parity.max_error:.2g}{against} in {parity.worst}; the tolerance is {parity.tolerance:g}. "
    if not math.isfinite(parity.max_error):
        return text + "An output is not finite, or of another shape or type; no tolerance accepts that"
    enough = f"{float(f'{1.05 * parity.max_error:.1e}'):g}"  # rounded, and still no less
    return text + (
        "A model should differ from its reference by rounding alone, so find out first why it differs more. If these "
        f"weights explain it (very large activations), --tolerance {model.name}={enough} accepts the model; "
        "the report and the server's log say so"
    )
