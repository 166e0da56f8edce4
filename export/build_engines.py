"""Checkpoints -> ONNX files, plans, configurations, model code: a repository Triton can serve.

    python export/build_engines.py [--checkpoints checkpoints] [--repository model_repository]

What is up to date is kept. The whole repository is made beside the old one and replaces it in one step; if a model is
too far from its reference, nothing is replaced.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
import time
from pathlib import Path

from cocoer.checkpoints.keys import CLIP_FILE, GWT_FILE, CheckpointError
from cocoer.checkpoints.synthetic import NOTICE, write_checkpoints
from cocoer.network.architecture import ARCHITECTURES, RELEASE
from export.arguments import UsageError, build_options, check_usage, find_detectors, parse_args
from export.detectors.files import DetectorError
from export.making import make
from export.models.detectors import DetectorModel
from export.options import Options
from export.plans.tensorrt import TensorRTMissing, load_tensorrt
from export.precision.calibration import CalibrationError
from export.publishing.builds import Builds, PublishError
from export.publishing.lock import Locked
from export.publishing.repository import NotWhole
from export.report import Outcome, format_table
from export.verification.drift import describe
from serving.bf16 import why_not_bf16

REFUSALS = (
    UsageError,
    TensorRTMissing,
    CalibrationError,
    CheckpointError,
    DetectorError,
    Locked,
    NotWhole,
    PublishError,
    OSError,
)
"""Told in a sentence; anything else is a defect."""

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


def check_detectors(options: Options) -> None:
    """Raise ``DetectorError`` before anything is built where a detector's file is the wrong one."""
    for model in options.models:
        if isinstance(model, DetectorModel):
            model.check_source(options)


def run(args: argparse.Namespace, command: str) -> int:
    """Build what the command line asks for; the exit code."""
    check_usage(args)
    builds = Builds(args.repository)
    if args.rollback:
        with builds.alone(command):
            builds.roll_back()
        print(f"{args.repository} is the build before again; --rollback once more takes this back", file=sys.stderr)
        return 0
    if args.backend == "tensorrt":
        load_tensorrt()  # before anything that takes long
    if args.precision == "bf16" and (problem := why_not_bf16()):
        raise UsageError(problem)
    ensure_checkpoint(args.checkpoints, args.synthetic)
    detection, notice = find_detectors(args.checkpoints, args.detectors)
    options = build_options(args, detection)
    check_detectors(options)
    with builds.alone(command):
        report, outcome = make(options, builds, command, progress)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print(format_table(outcome.rows))
        if report.get("drift"):
            print("\n".join(describe(report["drift"])))
    if notice:
        print(notice, file=sys.stderr)
    if outcome.build["synthetic"]:
        print(f"WARNING: {NOTICE}.", file=sys.stderr)
    return _closing_words(options, outcome)


def _closing_words(options: Options, outcome: Outcome) -> int:
    """Say on standard error what the table does not; the exit code."""
    kept = f"{options.repository} was left as it was. What was built is kept for the next run"
    for result in outcome.failed:
        print(f"error: {result.label}: {result.problem}", file=sys.stderr)
    if outcome.failed:
        print(f"{kept}.", file=sys.stderr)
        return 1
    if outcome.stale:
        print(
            f"Notice: {', '.join(outcome.stale)} missing, or built with other options, so {kept}: run again without "
            "--only.",
            file=sys.stderr,
        )
        return 0
    more = " --backend-config=tensorrt,version-compatible=true" if options.version_compatible else ""
    print(f"Ready: tritonserver --model-repository {options.repository}{more}", file=sys.stderr)
    if Builds(options.repository).previous.is_dir():
        print("The build before it is kept: --rollback goes back to it.", file=sys.stderr)
    return 0


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        return run(args, shlex.join(["python", "export/build_engines.py", *(sys.argv[1:] if argv is None else argv)]))
    except REFUSALS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the repository was left as it was, and the next run goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
