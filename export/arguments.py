"""The command line of ``build_engines.py``."""

from __future__ import annotations

import argparse
from pathlib import Path, PurePosixPath

from cocoer.network.architecture import ARCHITECTURES, RELEASE
from export.models.specs import ENGINES
from export.plans.tensorrt import HARDWARE_LEVELS, PlanOptions
from export.serving_options import ACCELERATORS, BACKENDS, ENGINE_CACHE, Serving


class UsageError(Exception):
    """Something the user can put right; the message says how."""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; see ``--help``."""
    parser = argparse.ArgumentParser(description="Build a servable model repository from CocoER's checkpoints.")
    add = parser.add_argument
    add("--checkpoints", type=Path, default=Path("checkpoints"), help="directory of the weights (default: checkpoints)")
    add(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        help="directory to complete (default: model_repository)",
    )
    add(
        "--backend",
        choices=("auto", *BACKENDS),
        default="auto",
        help="what serves: onnxruntime (what auto is), on CPUs and GPUs; tensorrt, whose plans are built by the "
        "TensorRT, and for the GPU, that this command runs on",
    )
    add(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="fp16: trunks, attention and wide layers in half precision, for GPUs; int8: trunks and detectors "
        "quantised, for CPUs, needs --calibration",
    )
    add("--calibration", type=Path, metavar="FOLDER", help="images like those you will send, for --precision int8")
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
    add("--json", action="store_true", help="print the report as JSON")
    add("--verbose", action="store_true", help="log what is being done")
    _add_gpu(parser)
    return parser.parse_args(argv)


def _add_gpu(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("GPUs")
    add = group.add_argument
    default = PlanOptions()
    add(
        "--accelerator",
        choices=ACCELERATORS,
        default="auto",
        help="of --backend onnxruntime. auto: CUDA where there is a GPU, else the CPU; cuda: a GPU is there, and the "
        "server is tuned for it; tensorrt: ONNX Runtime's TensorRT provider, which builds at the server's first start",
    )
    add(
        "--engine-cache",
        type=PurePosixPath,
        default=ENGINE_CACHE,
        metavar="DIR",
        help=f"where --accelerator tensorrt keeps what it built, on the server (default: {ENGINE_CACHE})",
    )
    add(
        "--workspace",
        type=_positive,
        default=default.workspace_gib,
        metavar="GIB",
        help=f"GPU memory that TensorRT may use for a layer (default: {default.workspace_gib:g})",
    )
    add(
        "--hardware-compatibility",
        choices=tuple(HARDWARE_LEVELS),
        default=default.hardware_compatibility,
        help="GPUs that a plan runs on: none: the model it is built on, fastest (default); ampere+: any since Ampere",
    )
    add("--version-compatible", action="store_true", help="plans for later TensorRT of the same major version too")
    add(
        "--optimization-level",
        type=int,
        choices=range(6),
        default=default.optimization_level,
        help=f"TensorRT's: 0 builds fast, 5 tries most (default: {default.optimization_level})",
    )


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError
    return value


def check_usage(args: argparse.Namespace) -> None:
    """Raise ``UsageError`` for options that don't go together."""
    if (args.precision == "int8") != (args.calibration is not None):
        raise UsageError("--precision int8 and --calibration FOLDER (images like those you will send) go together")
    if args.accelerator != "auto" and args.backend == "tensorrt":
        raise UsageError("--accelerator is ONNX Runtime's; --backend tensorrt runs TensorRT itself")
    if args.precision == "int8" and (args.backend == "tensorrt" or args.accelerator != "auto"):
        raise UsageError("--precision int8 is for CPUs; on GPUs, --precision fp16")
    if args.precision == "fp16" and args.accelerator == "tensorrt":
        raise UsageError(
            "--accelerator tensorrt can't keep energies and LayerNorms in FP32 beside FP16 trunks; use --backend "
            "tensorrt, which does, or --accelerator cuda"
        )


def serving_of(args: argparse.Namespace, scrfd: bool) -> Serving:
    """What the command line says of serving."""
    backend = "onnxruntime" if args.backend == "auto" else args.backend
    return Serving(args.precision, backend, args.accelerator, scrfd, args.engine_cache, args.workspace)


def plan_options(args: argparse.Namespace) -> PlanOptions:
    """What the command line says of plans."""
    return PlanOptions(
        args.workspace,
        args.hardware_compatibility,
        args.version_compatible,
        args.optimization_level,
        exact_fp32=args.precision == "fp32",
    )
