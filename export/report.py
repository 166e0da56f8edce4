"""What a build says of itself: a table for people, ``build_report.json``, and ``build.json`` for the BLS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from tabulate import tabulate

from cocoer import __version__
from export.detectors.files import is_synthetic
from export.models import DETECTORS
from export.models.ingredients import Ingredients
from export.options import Options
from export.staging import Result
from export.verification.verify import Parity


@dataclass
class Outcome:
    """What became of a build.

    Args:
        onnx, plans: a row of the report for each file.
        build: ``build.json``, but for the files.
        stale: models that are missing, or of other options; they were not asked for.
    """

    onnx: list[Result]
    plans: list[Result]
    build: dict[str, Any]
    stale: list[str]

    @property
    def rows(self) -> list[Result]:
        return [*self.onnx, *self.plans]

    @property
    def failed(self) -> list[Result]:
        return [result for result in self.rows if result.status == "failed"]

    def report(self) -> dict[str, Any]:
        """What ``--json`` prints and ``build_report.json`` holds."""
        return {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **self.build,
            "engines": [result.to_dict() for result in self.onnx],
            "plans": [result.to_dict() for result in self.plans],
        }


def format_table(results: Sequence[Result]) -> str:
    """The report for people."""
    rows = []
    for result in results:
        parity = result.parity
        errors = (f"{parity.max_error:.1e}", describe_tolerance(parity)) if parity else ("-", "-")
        verdict = "pass" if parity and parity.passed else "fail"
        figures = (f"{result.megabytes:.1f}", f"{result.seconds:.1f}")
        rows.append((result.label, result.status, *figures, *errors, verdict))
    header = ("model", "status", "MB", "build s", "max error", "tolerance", "")
    return tabulate(rows, header, tablefmt="simple", disable_numparse=True)


def describe_tolerance(parity: Parity) -> str:
    """A cell of the table."""
    if parity.default is None:
        return f"{parity.tolerance:.0e}"
    return f"{parity.tolerance:g} by hand (default {parity.default:.0e})"


def detector_label(options: Options) -> str:
    """What RESULT says of where boxes come from; a text for people."""
    if not options.scrfd:
        return "opencv-haar"
    synthetic = any(is_synthetic(options.checkpoints / detector.file) for detector in DETECTORS)
    return "scrfd (synthetic)" if synthetic else "scrfd"


def describe_build(options: Options, ingredients: Ingredients) -> dict[str, Any]:
    """``build.json`` but for the files: what the BLS should know, and RESULT says."""
    return {
        "version": __version__,
        "weights": ingredients.weights,
        "synthetic": ingredients.identity.synthetic,
        "detection": options.detection,
        "detector_size": options.detector_size,
        "detector": detector_label(options),
        "channel_order": options.channel_order,
        "coordination_step": options.coordination_step,
        "precision": options.precision,
        "backend": options.backend,
        "cores": None if options.on_gpu else options.cores,
        "plans": [model.name for model in options.models if options.runs_plan(model)],
    }


def tolerances_by_hand(parities: Iterable[tuple[str, Parity | None]]) -> dict[str, dict[str, float]]:
    """``tolerances`` of ``build.json``: name -> tolerance set by hand, its default, and the largest error measured.

    Args:
        parities: of ONNX files and plans, by the model's name.
    """
    told: dict[str, dict[str, float]] = {}
    for name, parity in parities:
        if parity and parity.default is not None:
            error = max(parity.max_error, told.get(name, {}).get("error", 0.0))
            told[name] = {"tolerance": parity.tolerance, "default": parity.default, "error": error}
    return told
