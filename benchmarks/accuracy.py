"""Average precision of the served model on an annotated data set.

    python benchmarks/accuracy.py --dataset emotic --annotations Annotations.mat --images emotic/

Asks a running server, or builds and serves variants (channel orders, precisions, coordination steps) one after the
other and compares them on the same persons. Writes accuracy.md, accuracy.json and accuracy.png.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np

from benchmarks.accuracy_report import Measured, compare, to_markdown, write_report
from benchmarks.datasets import DataSet, DatasetError, Example, check_labels
from benchmarks.loading import add_data_set, check_data_set, load
from benchmarks.predictions import Predictions, predict
from cocoer_client import CocoerClient, CocoerError
from export.precision import Precision
from serving.background import ServerFailed
from serving.server import TritonServer

PROJECT = Path(__file__).resolve().parent.parent
CACHE = PROJECT / ".cache" / "accuracy"


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Average precision of the served model on an annotated data set.",
        epilog="Without --channel-orders, --precisions and --coordination-steps the server at --url is measured as "
        "it is; with one of them each combination is built from --checkpoints, served on this machine, and measured.",
    )
    add = parser.add_argument
    add_data_set(parser)
    add("--bootstrap", type=int, default=1000, metavar="N", help="resamplings for the intervals (default: 1000)")
    add("--url", help="the server's gRPC address (default: $COCOER_URL, else localhost:8001)")
    add("--concurrency", type=int, default=4, metavar="N", help="images on their way at once (default: 4)")
    add("--channel-orders", nargs="+", choices=("bgr", "rgb"), metavar="ORDER", help="build and compare: bgr, rgb")
    add("--precisions", nargs="+", choices=get_args(Precision), metavar="P", help="the same: fp32, fp16, bf16, int8")
    add("--coordination-steps", nargs="+", type=float, metavar="X", help="the same: sizes of the step, such as 1 0.1 0")
    add("--checkpoints", type=Path, default=Path("checkpoints"), help="weights to build from (default: checkpoints)")
    add("--calibration", type=Path, metavar="DIR", help="images for int8 (not those that are measured)")
    add("--output-dir", type=Path, default=Path("accuracy"), help="for the report (default: accuracy)")
    add("--json", action="store_true", help="print the report as JSON instead of the table")
    args = parser.parse_args(argv)
    check_data_set(parser, args)
    if "int8" in (args.precisions or ()) and args.calibration is None:
        parser.error("--precisions int8 needs --calibration")
    if any(not 0 <= step < float("inf") for step in args.coordination_steps or ()):
        parser.error("--coordination-steps are numbers of at least 0")
    return args


def measure(url: str | None, examples: Sequence[Example], args: argparse.Namespace) -> Predictions:
    with CocoerClient(url, timeout=120) as client:
        client.check_ready()
        labels = client.infer(np.zeros((8, 8, 3), dtype=np.uint8), []).labels
        check_labels(examples, labels)
        return predict(
            client, examples, labels, args.concurrency, args.missing_head == "guess", array_order=args.array_order
        )


def measure_variants(examples: Sequence[Example], args: argparse.Namespace) -> list[Predictions]:
    """Build, serve and measure each combination, one after the other."""
    found: list[Predictions] = []
    built: list[Path] = []
    steps = args.coordination_steps or [1.0]
    for order, precision, step in product(args.channel_orders or ["bgr"], args.precisions or ["fp32"], steps):
        repository = _repository(order, precision, step)
        print(f"building {repository.name} ...", file=sys.stderr, flush=True)
        build = [sys.executable, "export/build_engines.py", "--checkpoints", args.checkpoints.resolve()]
        build += ["--repository", repository, "--channel-order", order, "--precision", precision]
        build += ["--coordination-step", str(step), *(f"--reuse={other}" for other in built)]
        if precision == "int8":
            build += ["--calibration", args.calibration.resolve()]
        if subprocess.run(build, cwd=PROJECT, stdout=subprocess.DEVNULL).returncode:
            raise DatasetError(f"{repository.name} could not be built")
        built.append(repository)
        with TritonServer(repository, CACHE / f"{repository.name}.log") as server:
            found.append(measure(server.url, examples, args))
    return found


def _repository(order: str, precision: str, step: float) -> Path:
    """Where a variant is built."""
    name = f"{order}-{precision}"
    return CACHE / (name if step == 1 else f"{name}-step{step:g}")


def run(args: argparse.Namespace, data: DataSet) -> list[Measured]:
    """The figures of each variant."""
    examples = data.examples
    builds = args.channel_orders or args.precisions or args.coordination_steps
    predictions = measure_variants(examples, args) if builds else [measure(args.url, examples, args)]
    if not any(one.answered.any() for one in predictions):
        raise DatasetError("no annotated person was found in any image")
    return compare(predictions, args.bootstrap, with_top1=args.dataset == "caer-s")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        data = load(args)
        measured = run(args, data)
        report = write_report(measured, vars(args), args.output_dir, data)
    except (DatasetError, CocoerError, ServerFailed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print((args.output_dir / "accuracy.json").read_text() if args.json else to_markdown(report))
    print(f"written to {args.output_dir}/: accuracy.md, accuracy.json, accuracy.png", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
