"""Checkpoints -> ONNX files, plans, configurations, model code: a repository Triton can serve.

    python export/build_engines.py [--checkpoints checkpoints] [--repository model_repository]

What is up to date is kept. If a model is too far from its reference, none replaces another.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tabulate import tabulate

from cocoer import __version__
from cocoer.checkpoints.keys import CLIP_FILE, GWT_FILE, CheckpointError
from cocoer.checkpoints.synthetic import NOTICE, write_checkpoints
from cocoer.network.architecture import ARCHITECTURES, RELEASE
from export.arguments import UsageError, build_options, check_usage, find_detectors, parse_args
from export.builder import OnnxBuild
from export.detectors.files import DetectorError, is_synthetic
from export.files import write_json
from export.models import DETECTORS
from export.models.detectors import DetectorModel
from export.models.ingredients import Ingredients
from export.options import Options
from export.plans.builder import PlanBuild, PlanResult
from export.plans.tensorrt import TensorRTMissing, load_tensorrt
from export.precision.calibration import CalibrationError
from export.publishing.repository import REPORT_FILE, write_repository
from export.staging import Result
from export.verification.drift import describe, drift
from export.verification.verify import Parity

WHERE_WEIGHTS_COME_FROM = """\
No checkpoint: {missing} not found.

CocoER's weights come from its authors' release, CLIP's RN50.pt from OpenAI. Place them like this:
  {directory}/GWT.pth
  {directory}/VI_weights/w.pth
  {directory}/clip/RN50.pt
  {directory}/insightface/scrfd_person_2.5g.onnx  (optional: person detector)
  {directory}/insightface/det_10g.onnx            (optional: face detector, of insightface's pack buffalo_l)
checkpoints/README.md says more.
To try the deployment without them, pass --synthetic: random weights, meaningless predictions."""


def ensure_checkpoint(checkpoints: Path, synthetic: str | None) -> None:
    """Raise ``UsageError`` unless there are weights.

    Args:
        checkpoints: where they are.
        synthetic: write random ones of this architecture where there are none at all; None: don't.
    """
    missing = [name for name in (GWT_FILE, CLIP_FILE) if not (checkpoints / name).exists()]
    if not missing:
        return
    if synthetic and len(missing) == 2:
        architecture = ARCHITECTURES[synthetic]
        progress(
            f"writing synthetic weights to {checkpoints} ({'1.4 GB' if architecture == RELEASE else architecture.name})"
        )
        write_checkpoints(0, checkpoints, architecture)
        return
    raise UsageError(WHERE_WEIGHTS_COME_FROM.format(missing=" and ".join(missing), directory=checkpoints))


def progress(message: str) -> None:
    """One line per long step, on standard error so that --json stays clean."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)


def detector_label(options: Options) -> str:
    """What RESULT says of where boxes come from; a text for people."""
    if not options.scrfd:
        return "opencv-haar"
    synthetic = any(is_synthetic(options.checkpoints / detector.file) for detector in DETECTORS)
    return "scrfd (synthetic)" if synthetic else "scrfd"


def describe_tolerance(parity: Parity) -> str:
    """A cell of the table."""
    if parity.default is None:
        return f"{parity.tolerance:.0e}"
    return f"{parity.tolerance:g} by hand (default {parity.default:.0e})"


def check_detectors(options: Options) -> None:
    """Raise ``DetectorError`` before anything is built where a detector's file is the wrong one."""
    for model in options.models:
        if isinstance(model, DetectorModel):
            model.check_source(options)


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


def run(args: argparse.Namespace, command: str) -> int:
    """Build what the command line asks for; the exit code."""
    check_usage(args)
    if args.backend == "tensorrt":
        load_tensorrt()  # before anything that takes long
    ensure_checkpoint(args.checkpoints, args.synthetic)
    detection, notice = find_detectors(args.checkpoints, args.detectors)
    options = build_options(args, detection)
    check_detectors(options)
    builder = OnnxBuild(options, progress)
    results = builder.build(filter(options.asks_for, options.models))
    parities = [(model.name, builder.servable(model)) for model in options.models]
    stale = [name for name, parity in parities if parity is None]
    plans: list[Result] = []
    planned = [model for model in options.models if options.runs_plan(model)]
    if planned and not any(result.status == "failed" for result in results):
        planner = PlanBuild(options, builder.ingredients.samples, command, progress)
        plans = planner.build(model for model in planned if model.name not in stale and options.asks_for(model))
        of_plans = [(model.name, planner.servable(model)) for model in planned if model.name not in stale]
        stale += [name for name, parity in of_plans if parity is None]
        parities += of_plans
    failed = [result for result in (*results, *plans) if result.status == "failed"]
    build = {**describe_build(options, builder.ingredients), "tolerances": tolerances_by_hand(parities)}
    report: dict[str, Any] = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **build,
        "engines": [result.to_dict() for result in results],
        "plans": [result.to_dict() for result in plans],
    }
    if not failed and not stale:
        report["drift"] = drift(builder.ingredients, options.repository)
    if not failed:
        write_repository(options, None if stale else build)
        write_json(options.repository / REPORT_FILE, report)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print(format_table([*results, *plans]))
        if report.get("drift"):
            print("\n".join(describe(report["drift"])))
    if notice:
        print(notice, file=sys.stderr)
    if build["synthetic"]:
        print(f"WARNING: {NOTICE}.", file=sys.stderr)
    return _closing_words(options, results, failed, stale)


def _closing_words(options: Options, results: Sequence[Result], failed: Sequence[Result], stale: list[str]) -> int:
    """Say on standard error what the table does not; the exit code.

    Args:
        options: of the build.
        results: of the ONNX files.
        failed: of ONNX files or plans.
        stale: models that are not of this build.
    """
    for result in failed:
        print(f"error: {result.label}: {result.problem}", file=sys.stderr)
    if failed:
        # ONNX files are installed before plans of them are built.
        half = isinstance(failed[0], PlanResult) and any(result.status == "built" for result in results)
        but = ", but for its ONNX files: it can't be served until their plans are built" if half else ""
        print(f"{options.repository} was left as it was{but}.", file=sys.stderr)
        return 1
    if stale:
        print(
            f"Notice: {options.repository} can't be served yet: {', '.join(stale)} missing, or built with other "
            "options. Run again without --only.",
            file=sys.stderr,
        )
        return 0
    more = " --backend-config=tensorrt,version-compatible=true" if options.version_compatible else ""
    print(f"Ready: tritonserver --model-repository {options.repository}{more}", file=sys.stderr)
    return 0


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        return run(args, shlex.join(["python", "export/build_engines.py", *(sys.argv[1:] if argv is None else argv)]))
    except (UsageError, TensorRTMissing, CalibrationError, CheckpointError, DetectorError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; no model was replaced", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
