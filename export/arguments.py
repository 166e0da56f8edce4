"""The command line of ``build_engines.py``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path, PurePosixPath
from typing import get_args

from cocoer.network.architecture import ARCHITECTURES, RELEASE
from cocoer_bls.manifest import Detection
from cocoer_bls.plans import HardwareCompatibility
from export.detectors.layout import MAX_SIZE, MIN_SIZE, SIZE_STEP, is_detector_size
from export.models import DETECTORS, MODELS
from export.options import Accelerator, Backend, ChannelOrder, Options
from export.precision import Precision
from serving.cores import cores

DEFAULT = Options()


class UsageError(Exception):
    """Something the user can put right; the message says how."""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; see ``--help``."""
    parser = argparse.ArgumentParser(description="Build a servable model repository from CocoER's checkpoints.")
    add = parser.add_argument
    add("--checkpoints", type=Path, default=DEFAULT.checkpoints, help="directory of the weights (default: checkpoints)")
    add(
        "--repository",
        type=Path,
        default=DEFAULT.repository,
        help="directory to write, which the build has for itself (default: model_repository)",
    )
    add(
        "--backend",
        choices=("auto", *get_args(Backend)),
        default="auto",
        help="what serves: onnxruntime (what auto is), on CPUs and GPUs; tensorrt, whose plans are built by the "
        "TensorRT, and for the GPU, that this command runs on; openvino (what auto is with --precision bf16), on CPUs",
    )
    add(
        "--precision",
        choices=get_args(Precision),
        default=DEFAULT.precision,
        help="fp16: trunks, attention and wide layers in half precision, for GPUs; bf16: the same and "
        "detectors in bfloat16, for CPUs that have it (AVX512_BF16, AMX), needs OpenVINO; int8: trunks and detectors "
        "quantised, for CPUs, needs --calibration",
    )
    add("--calibration", type=Path, metavar="FOLDER", help="images like those you will send, for --precision int8")
    add(
        "--channel-order",
        choices=get_args(ChannelOrder),
        default=DEFAULT.channel_order,
        help="what the network is fed (default: bgr, as the release)",
    )
    add(
        "--coordination-step",
        type=_step,
        default=DEFAULT.coordination_step,
        metavar="X",
        help="size of coordination's gradient step, from 0 (levels stay as they are): 1 (default) is the release's "
        "inference script's, 0.1 is set in its training script, whose evaluation as released takes none (0)",
    )
    add(
        "--detectors",
        choices=("auto", *get_args(Detection)),
        default="auto",
        help="auto: SCRFD where both files are, else OpenCV",
    )
    add(
        "--detector-size",
        type=_detector_size,
        default=DEFAULT.detector_size,
        metavar="N",
        help=f"images are scaled to N x N pixels for SCRFD, a multiple of {SIZE_STEP} from {MIN_SIZE} to {MAX_SIZE} "
        f"(default: {DEFAULT.detector_size}, what it was trained at). More finds people who are small in large images, "
        "in time that grows with the square; files exported for a fixed size want that size",
    )
    here = cores()
    add(
        "--cores",
        type=_count,
        default=here,
        metavar="N",
        help="cores of the machine that will serve, if it does so without a GPU: models get threads for so many "
        f"(default: those of this machine, {here})",
    )
    names = [model.name for model in MODELS]
    add("--only", nargs="+", choices=names, default=[], metavar="NAME", help=f"build these alone: {', '.join(names)}")
    add("--force", action="store_true", help="rebuild what is up to date too")
    add(
        "--reuse",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="take over what fits from another repository, as from this one's earlier build (repeatable)",
    )
    add(
        "--rollback",
        action="store_true",
        help="build nothing; let the repository be what it was before its last build, or after it again",
    )
    add(
        "--synthetic",
        nargs="?",
        const=RELEASE.name,
        choices=tuple(ARCHITECTURES),
        help="write random weights where there is no checkpoint: release (1.4 GB; the default) or tiny (the same "
        "graph, built in a fraction of the time)",
    )
    add(
        "--trust-checkpoint",
        action="store_true",
        help="load files that can run code (pickled objects, unknown TorchScript)",
    )
    add(
        "--tolerance",
        action="append",
        type=_tolerance,
        default=[],
        metavar="NAME=VALUE",
        help="accept model NAME up to an error of VALUE against its reference, instead of the default that the "
        "report shows; told in the report and by the server (repeatable)",
    )
    add("--json", action="store_true", help="print the report as JSON")
    add("--verbose", action="store_true", help="log what is being done")
    _add_gpu(parser)
    return parser.parse_args(argv)


def _add_gpu(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("GPUs")
    add = group.add_argument
    add(
        "--accelerator",
        choices=get_args(Accelerator),
        default=DEFAULT.accelerator,
        help="of --backend onnxruntime. auto: CUDA where there is a GPU, else the CPU; cuda: a GPU is there, and the "
        "server is tuned for it; tensorrt: ONNX Runtime's TensorRT provider, which builds at the server's first start",
    )
    add(
        "--engine-cache",
        type=PurePosixPath,
        default=DEFAULT.engine_cache,
        metavar="DIR",
        help=f"where --accelerator tensorrt keeps what it built, on the server (default: {DEFAULT.engine_cache})",
    )
    add(
        "--workspace",
        type=_positive,
        default=DEFAULT.workspace_gib,
        metavar="GIB",
        help=f"GPU memory that TensorRT may use for a layer (default: {DEFAULT.workspace_gib:g})",
    )
    add(
        "--hardware-compatibility",
        choices=get_args(HardwareCompatibility),
        default=DEFAULT.hardware_compatibility,
        help="GPUs that a plan runs on: none: the model it is built on, fastest (default); ampere+: any since Ampere",
    )
    add("--version-compatible", action="store_true", help="plans for later TensorRT too; see docs/gpu.md")
    add(
        "--optimization-level",
        type=int,
        choices=range(6),
        default=DEFAULT.optimization_level,
        help=f"TensorRT's: 0 builds fast, 5 tries most (default: {DEFAULT.optimization_level})",
    )


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}")
    return value


def _detector_size(text: str) -> int:
    if not text.isdecimal() or not is_detector_size(int(text)):
        raise argparse.ArgumentTypeError(f"must be a multiple of {SIZE_STEP} from {MIN_SIZE} to {MAX_SIZE}, got {text}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)


def _positive(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def _step(text: str) -> float:
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {text}")
    return abs(value)  # -0 is 0


def _tolerance(text: str) -> tuple[str, float]:
    """A model's name and its tolerance: not NaN, not infinite, which would accept any model."""
    name, _, number = text.partition("=")
    names = [model.name for model in MODELS]
    if name not in names:
        raise argparse.ArgumentTypeError(f"no model is called {name!r}; NAME=VALUE has one of {', '.join(names)}")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{number!r} is not a number of 0 or more: {name}=0.01, say")
    return name, value


def check_usage(args: argparse.Namespace) -> None:
    """Raise ``UsageError`` for options that don't go together."""
    if (args.precision == "int8") != (args.calibration is not None):
        raise UsageError("--precision int8 and --calibration FOLDER (images like those you will send) go together")
    if args.accelerator != "auto" and args.backend == "tensorrt":
        raise UsageError("--accelerator is ONNX Runtime's; --backend tensorrt runs TensorRT itself")
    if args.precision in ("int8", "bf16") and (args.backend == "tensorrt" or args.accelerator != "auto"):
        raise UsageError(f"--precision {args.precision} is for CPUs; on GPUs, --precision fp16")
    if args.precision == "bf16" and args.backend == "onnxruntime":
        raise UsageError("ONNX Runtime computes no bf16 on CPUs; --precision bf16 takes --backend openvino, or none")
    if args.backend == "openvino" and args.precision != "bf16":
        raise UsageError("--backend openvino is for --precision bf16; the others are ONNX Runtime's")
    if args.precision == "fp16" and args.accelerator == "tensorrt":
        raise UsageError(
            "--accelerator tensorrt can't keep energies and LayerNorms in FP32 beside FP16 trunks; use --backend "
            "tensorrt, which does, or --accelerator cuda"
        )


def find_detectors(checkpoints: Path, choice: str) -> tuple[Detection, str]:
    """How persons are to be found, and a notice for the user (empty where there is nothing to say).

    Args:
        checkpoints: directory of the weights.
        choice: "auto", or one of ``Detection``.

    Raises:
        UsageError: SCRFD is asked for and a file is missing.
    """
    if choice == "opencv":
        return "opencv", ""
    paths = [checkpoints / detector.file for detector in DETECTORS]
    # What is there but can't be read, a directory even, is for the build to complain of.
    missing = " and ".join(str(path) for path in paths if not path.exists())
    if not missing:
        return "scrfd", ""
    if choice == "scrfd":
        raise UsageError(f"--detectors scrfd needs {missing}; --detectors opencv does without")
    return "opencv", (
        f"Notice: {missing} not found, so the server will find persons with OpenCV's Haar face cascade "
        "and a body box guessed from the face. Fine for a first look, not for results."
    )


def _backend(args: argparse.Namespace) -> Backend:
    if args.backend == "auto":
        return "openvino" if args.precision == "bf16" else DEFAULT.backend
    chosen: Backend = args.backend
    return chosen


def build_options(args: argparse.Namespace, detection: Detection) -> Options:
    """What the command line says of the build; ``detection`` as ``find_detectors`` decides.

    Raises:
        UsageError: a size for detectors that are not there.
    """
    if detection == "opencv" and args.detector_size != DEFAULT.detector_size:
        files = " and ".join(str(args.checkpoints / detector.file) for detector in DETECTORS)
        raise UsageError(f"--detector-size is SCRFD's: it needs {files}, and not --detectors opencv")
    return Options(
        checkpoints=args.checkpoints,
        repository=args.repository,
        precision=args.precision,
        channel_order=args.channel_order,
        coordination_step=args.coordination_step,
        detection=detection,
        detector_size=args.detector_size,
        calibration=args.calibration,
        only=tuple(args.only),
        force=args.force,
        reuse=tuple(args.reuse),
        trust_checkpoint=args.trust_checkpoint,
        tolerances=dict(args.tolerance),
        backend=_backend(args),
        accelerator=args.accelerator,
        cores=args.cores,
        engine_cache=args.engine_cache,
        workspace_gib=args.workspace,
        hardware_compatibility=args.hardware_compatibility,
        version_compatible=args.version_compatible,
        optimization_level=args.optimization_level,
    )
