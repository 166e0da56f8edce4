"""Checkpoints -> engines, configurations, model code: a repository Triton can serve.

    python export/build_engines.py [--checkpoints checkpoints] [--repository model_repository]

What is up to date is kept. If an engine is too far from its reference, none replaces another.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import onnx

from cocoer import __version__
from cocoer.checkpoints.keys import CLIP_FILE, GWT_FILE, CheckpointError
from cocoer.checkpoints.synthetic import NOTICE, write_checkpoints
from cocoer.network.architecture import ARCHITECTURES, RELEASE
from export.arguments import UsageError, check_usage, parse_args, plan_options, serving_of
from export.builder import DETECTOR_FILES, Builder, BuildOptions, EngineResult
from export.models.specs import ENGINES
from export.plans.builder import PlanBuilder, PlanResult
from export.plans.tensorrt import TensorRTMissing, load_tensorrt
from export.precision.calibration import CalibrationError
from export.publishing.repository import REPORT_FILE, write_json, write_repository
from export.verification import drift

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


def find_detectors(checkpoints: Path, choice: str) -> tuple[bool, str]:
    """Whether to use SCRFD, and a notice for the user (empty where there is nothing to say).

    Raises:
        UsageError: SCRFD is asked for and a file is missing.
    """
    missing = [str(checkpoints / name) for name in DETECTOR_FILES.values() if not (checkpoints / name).is_file()]
    if choice == "opencv" or (choice == "auto" and not missing):
        return choice == "auto", ""
    if choice == "scrfd":
        if missing:
            raise UsageError(f"--detectors scrfd needs {' and '.join(missing)}; --detectors opencv does without")
        return True, ""
    return False, (
        f"Notice: {' and '.join(missing)} not found, so the server will find persons with OpenCV's Haar face cascade "
        "and a body box guessed from the face. Fine for a first look, not for results."
    )


def ensure_checkpoint(checkpoints: Path, synthetic: str | None) -> None:
    """Raise ``UsageError`` unless there are weights.

    Args:
        checkpoints: where they are.
        synthetic: write random ones of this architecture where there are none at all; None: don't.
    """
    missing = [name for name in (GWT_FILE, CLIP_FILE) if not (checkpoints / name).is_file()]
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


def detector_name(options: BuildOptions) -> str:
    """What RESULT says of where boxes come from."""
    if not options.scrfd:
        return "opencv-haar"
    files = [onnx.load(options.checkpoints / name, load_external_data=False) for name in DETECTOR_FILES.values()]
    synthetic = any(entry.key == "synthetic" for model in files for entry in model.metadata_props)
    return "scrfd (synthetic)" if synthetic else "scrfd"


def format_table(results: Sequence[EngineResult]) -> str:
    """The report for people."""
    rows = [("model", "status", "MB", "build s", "max error", "tolerance", "")]
    for result in results:
        parity = result.parity
        error = f"{parity.max_error:.1e}" if parity else "-"
        tolerance = f"{parity.tolerance:.0e}" if parity else "-"
        verdict = "pass" if parity and parity.passed else "fail"
        size, seconds = f"{result.megabytes:.1f}", f"{result.seconds:.1f}"
        rows.append((result.label, result.status, size, seconds, error, tolerance, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def plan_builder(args: argparse.Namespace, builder: Builder, command: str) -> PlanBuilder:
    """Builds the plans of what ``builder`` has built.

    Raises:
        TensorRTMissing: there is no TensorRT here, or its bindings are of another version than its libraries.
    """
    tolerances = {spec.name: builder.tolerance(spec) for spec in ENGINES}
    return PlanBuilder(
        args.repository,
        args.precision,
        plan_options(args),
        builder,
        tolerances,
        command,
        args.force,
        progress,
    )


def run(args: argparse.Namespace, command: str) -> int:
    check_usage(args)
    if args.backend == "tensorrt":
        load_tensorrt()  # before anything that takes long
    ensure_checkpoint(args.checkpoints, args.synthetic)
    scrfd, notice = find_detectors(args.checkpoints, args.detectors)
    serving = serving_of(args, scrfd)
    options = BuildOptions(
        args.checkpoints,
        args.repository,
        args.precision,
        args.channel_order,
        scrfd,
        args.trust_checkpoint,
        args.force,
        tuple(args.only),
        args.calibration,
    )
    builder = Builder(options, progress)
    results = builder.build()
    stale = [spec.name for spec in ENGINES if builder.current_record(spec) is None]
    plans: list[PlanResult] = []
    planned = [spec for spec in ENGINES if serving.runs_plan(spec)]
    if planned and not any(result.status == "failed" for result in results):
        planner = plan_builder(args, builder, command)
        ready = [spec for spec in planned if spec.name not in stale and (not args.only or spec.name in args.only)]
        plans = planner.build(ready)
        stale += [spec.name for spec in planned if spec.name not in stale and planner.current(spec) is None]
    failed = [result for result in (*results, *plans) if result.status == "failed"]
    build = {
        "version": __version__,
        "weights": builder.weights,
        "synthetic": builder.identity.synthetic,
        "detector": detector_name(options),
        "channel_order": args.channel_order,
        "precision": args.precision,
        "backend": serving.backend,
        "plans": [spec.name for spec in planned],
    }
    report = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **build,
        "engines": [result.to_dict() for result in results],
        "plans": [result.to_dict() for result in plans],
    }
    if not failed and not stale:
        report["drift"] = builder.drift()
    if not failed:
        write_repository(args.repository, serving, None if stale else build)
        write_json(args.repository / REPORT_FILE, report)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print(format_table([*results, *plans]))
        if report.get("drift"):
            print("\n".join(drift.describe(report["drift"])))
    return _closing_words(args, builder, notice, results, failed, stale)


def _closing_words(
    args: argparse.Namespace,
    builder: Builder,
    notice: str,
    engines: Sequence[EngineResult],
    failed: Sequence[EngineResult],
    stale: list[str],
) -> int:
    """Say on standard error what the table does not; the exit code."""
    if notice:
        print(notice, file=sys.stderr)
    if builder.identity.synthetic:
        print(f"WARNING: {NOTICE}.", file=sys.stderr)
    for result in failed:
        print(f"error: {result.label}: {result.problem}", file=sys.stderr)
    if failed:
        # Engines are installed before plans of them are built.
        half = isinstance(failed[0], PlanResult) and any(result.status == "built" for result in engines)
        but = ", but for its ONNX engines: it can't be served until their plans are built" if half else ""
        print(f"{args.repository} was left as it was{but}.", file=sys.stderr)
        return 1
    if stale:
        print(
            f"Notice: {args.repository} can't be served yet: {', '.join(stale)} missing, or built with other options. "
            "Run again without --only.",
            file=sys.stderr,
        )
        return 0
    more = " --backend-config=tensorrt,version-compatible=true" if args.version_compatible else ""
    print(f"Ready: tritonserver --model-repository {args.repository}{more}", file=sys.stderr)
    return 0


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        return run(args, shlex.join(["python", "export/build_engines.py", *(sys.argv[1:] if argv is None else argv)]))
    except (UsageError, TensorRTMissing, CalibrationError, CheckpointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; no engine was replaced", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
