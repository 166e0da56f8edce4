"""Checkpoints -> engines, configurations, model code: a repository Triton can serve.

    python export/build_engines.py [--checkpoints checkpoints] [--repository model_repository]

What is up to date is kept. If an engine is too far from its reference, none replaces another.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import onnx  # noqa: E402

from cocoer import __version__  # noqa: E402
from cocoer.synthetic import NOTICE, write_checkpoints  # noqa: E402
from cocoer.weights import CLIP_FILE, GWT_FILE, CheckpointError  # noqa: E402
from export import drift  # noqa: E402
from export.builder import DETECTOR_FILES, Builder, BuildOptions, EngineResult  # noqa: E402
from export.calibration import CalibrationError  # noqa: E402
from export.repository import REPORT_FILE, write_json, write_repository  # noqa: E402
from export.specs import ENGINES  # noqa: E402

NO_TENSORRT = (
    "The tensorrt backend is not built yet: building plans needs TensorRT inside the serving container; "
    "use --backend onnxruntime."
)
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


class UsageError(Exception):
    """Something the user can put right; the message says how."""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build a servable model repository from CocoER's checkpoints.")
    add = parser.add_argument
    add("--checkpoints", type=Path, default=Path("checkpoints"), help="directory of the weights (default: checkpoints)")
    add(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        help="directory to complete (default: model_repository)",
    )
    add("--backend", choices=("auto", "onnxruntime", "tensorrt"), default="auto", help="auto is onnxruntime today")
    add(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="fp16: trunks in half precision; int8: trunks and detectors quantised, for CPUs, needs --calibration",
    )
    add("--calibration", type=Path, metavar="FOLDER", help="pictures like those you will send, for --precision int8")
    add(
        "--channel-order",
        choices=("bgr", "rgb"),
        default="bgr",
        help="what the network is fed (default: bgr, as the release)",
    )
    add(
        "--detectors",
        choices=("auto", "scrfd", "opencv"),
        default="auto",
        help="auto: SCRFD where both files are, else OpenCV",
    )
    names = [spec.name for spec in ENGINES]
    add("--only", nargs="+", choices=names, default=[], metavar="NAME", help=f"build these alone: {', '.join(names)}")
    add("--force", action="store_true", help="rebuild what is up to date too")
    add("--synthetic", action="store_true", help="write random weights where there is no checkpoint")
    add(
        "--trust-checkpoint",
        action="store_true",
        help="load files that can run code (pickled objects, unknown TorchScript)",
    )
    add("--json", action="store_true", help="print the report as JSON")
    add("--verbose", action="store_true", help="log what is being done")
    return parser.parse_args(argv)


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


def ensure_checkpoint(checkpoints: Path, synthetic: bool) -> None:
    """Raise ``UsageError`` unless there are weights; ``synthetic``: write random ones where there are none at all."""
    missing = [name for name in (GWT_FILE, CLIP_FILE) if not (checkpoints / name).is_file()]
    if not missing:
        return
    if synthetic and len(missing) == 2:
        progress(f"writing synthetic weights to {checkpoints} (1.4 GB)")
        write_checkpoints(0, checkpoints)
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


def format_table(results: list[EngineResult]) -> str:
    """The report for people."""
    rows = [("model", "status", "MB", "build s", "max error", "tolerance", "")]
    for result in results:
        parity = result.parity
        error = f"{parity.max_error:.1e}" if parity else "-"
        tolerance = f"{parity.tolerance:.0e}" if parity else "-"
        verdict = "pass" if parity and parity.passed else "fail"
        size, seconds = f"{result.megabytes:.1f}", f"{result.seconds:.1f}"
        rows.append((result.name, result.status, size, seconds, error, tolerance, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def run(args: argparse.Namespace) -> int:
    if args.backend == "tensorrt":
        raise UsageError(NO_TENSORRT)
    if (args.precision == "int8") != (args.calibration is not None):
        raise UsageError("--precision int8 and --calibration FOLDER (pictures like those you will send) go together")
    ensure_checkpoint(args.checkpoints, args.synthetic)
    scrfd, notice = find_detectors(args.checkpoints, args.detectors)
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
    build = {
        "version": __version__,
        "weights": builder.weights,
        "synthetic": builder.synthetic,
        "detector": detector_name(options),
        "channel_order": args.channel_order,
        "precision": args.precision,
        "backend": "onnxruntime",
    }
    failed = [result for result in results if result.status == "failed"]
    stale = [spec.name for spec in ENGINES if builder.current_record(spec) is None]
    report = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **build,
        "engines": [result.to_dict() for result in results],
    }
    if not failed and not stale:
        report["drift"] = builder.drift()
    if not failed:
        write_repository(args.repository, args.precision, None if stale else build)
        write_json(args.repository / REPORT_FILE, report)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print(format_table(results))
        if report.get("drift"):
            print("\n".join(drift.describe(report["drift"])))
    return _closing_words(args, builder, notice, failed, stale)


def _closing_words(
    args: argparse.Namespace, builder: Builder, notice: str, failed: list[EngineResult], stale: list[str]
) -> int:
    """Say on standard error what the table does not; the exit code."""
    if notice:
        print(notice, file=sys.stderr)
    if builder.synthetic:
        print(f"WARNING: {NOTICE}.", file=sys.stderr)
    for result in failed:
        print(f"error: {result.name}: {result.problem}", file=sys.stderr)
    if failed:
        print(f"{args.repository} was left as it was.", file=sys.stderr)
        return 1
    if stale:
        print(
            f"Notice: {args.repository} can't be served yet: {', '.join(stale)} missing, or built with other options. "
            "Run again without --only.",
            file=sys.stderr,
        )
    else:
        print(f"Ready: tritonserver --model-repository {args.repository}", file=sys.stderr)
    return 0


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        return run(args)
    except (UsageError, CalibrationError, CheckpointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; no engine was replaced", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
