"""Average precision of the served model on an annotated data set.

    python benchmarks/accuracy.py --dataset emotic --annotations Annotations.mat --images emotic/

Asks a running server, or builds and serves variants (channel orders, precisions) one after the other and compares
them on the same persons. Writes accuracy.md, accuracy.json and accuracy.png.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.accuracy_report import Measured, compare, to_markdown, write_report
from benchmarks.datasets import DatasetError, Example, check_labels, read_caers, read_emotic
from benchmarks.predictions import Predictions, predict
from cocoer_client import CocoerClient, CocoerError
from serving.server import ServerFailed, TritonServer

PROJECT = Path(__file__).resolve().parent.parent
CACHE = PROJECT / ".cache" / "accuracy"


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Average precision of the served model on an annotated data set.",
        epilog="Without --channel-orders and --precisions the server at --url is measured as it is; with one of them "
        "each combination is built from --checkpoints, served on this machine, and measured.",
    )
    add = parser.add_argument
    add("--dataset", choices=("emotic", "caer-s"), default="emotic", help="its format (default: emotic)")
    add("--annotations", type=Path, metavar="FILE", help="EMOTIC: Annotations.mat, or a CSV")
    add("--images", type=Path, required=True, metavar="DIR", help="holds EMOTIC's folder/file, or CAER-S's class/file")
    add("--split", default="test", choices=("train", "val", "test"), help="of a .mat (default: test)")
    add("--map", action="append", default=[], metavar="NAME=LABEL", help="CAER-S: the label that a folder stands for")
    add(
        "--missing-head",
        choices=("drop", "guess"),
        default="drop",
        help="where no face is found in an annotated body: leave the person out (default), or take the upper middle of "
        "the body",
    )
    add("--limit", type=int, metavar="N", help="the first N images only")
    add("--bootstrap", type=int, default=1000, metavar="N", help="resamplings for the intervals (default: 1000)")
    add("--url", help="the server's gRPC address (default: $COCOER_URL, else localhost:8001)")
    add("--concurrency", type=int, default=4, metavar="N", help="images on their way at once (default: 4)")
    add("--channel-orders", nargs="+", choices=("bgr", "rgb"), metavar="ORDER", help="build and compare: bgr, rgb")
    add("--precisions", nargs="+", choices=("fp32", "fp16", "int8"), metavar="P", help="the same: fp32, fp16, int8")
    add("--checkpoints", type=Path, default=Path("checkpoints"), help="weights to build from (default: checkpoints)")
    add("--calibration", type=Path, metavar="DIR", help="images for int8 (not those that are measured)")
    add("--output-dir", type=Path, default=Path("accuracy"), help="for the report (default: accuracy)")
    add("--json", action="store_true", help="print the report as JSON instead of the table")
    args = parser.parse_args(argv)
    if args.dataset == "emotic" and args.annotations is None:
        parser.error("--dataset emotic needs --annotations")
    if "int8" in (args.precisions or ()) and args.calibration is None:
        parser.error("--precisions int8 needs --calibration")
    return args


def load(args: argparse.Namespace) -> list[Example]:
    if args.dataset == "emotic":
        examples = read_emotic(args.annotations, args.images, args.split)
    else:
        examples = read_caers(args.images, dict(pair.split("=", 1) for pair in args.map))
    examples = examples[: args.limit]
    absent = [example.image for example in examples if not example.image.is_file()]
    if absent:
        raise DatasetError(f"{len(absent)} of {len(examples)} images are not there, the first is {absent[0]}")
    return examples


def measure(url: str | None, examples: Sequence[Example], args: argparse.Namespace) -> Predictions:
    with CocoerClient(url, timeout=120) as client:
        client.check_ready()
        labels = client.infer(np.zeros((8, 8, 3), dtype=np.uint8), []).labels
        check_labels(examples, labels)
        return predict(client, examples, labels, args.concurrency, guess_heads=args.missing_head == "guess")


def measure_variants(examples: Sequence[Example], args: argparse.Namespace) -> list[Predictions]:
    """Build, serve and measure each combination, one after the other."""
    found = []
    for order, precision in product(args.channel_orders or ["bgr"], args.precisions or ["fp32"]):
        repository = CACHE / f"{order}-{precision}"
        print(f"building {repository.name} ...", file=sys.stderr, flush=True)
        build = [sys.executable, "export/build_engines.py", "--checkpoints", args.checkpoints.resolve()]
        build += ["--repository", repository, "--channel-order", order, "--precision", precision]
        if precision == "int8":
            build += ["--calibration", args.calibration.resolve()]
        if subprocess.run(build, cwd=PROJECT, stdout=subprocess.DEVNULL).returncode:
            raise DatasetError(f"{repository.name} could not be built")
        with TritonServer(repository, CACHE / f"{repository.name}.log") as server:
            found.append(measure(server.url, examples, args))
    return found


def run(args: argparse.Namespace) -> list[Measured]:
    examples = load(args)
    builds = args.channel_orders or args.precisions
    predictions = measure_variants(examples, args) if builds else [measure(args.url, examples, args)]
    if not any(one.answered.any() for one in predictions):
        raise DatasetError("no annotated person was found in any image")
    return compare(predictions, args.bootstrap, with_top1=args.dataset == "caer-s")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        measured = run(args)
        report = write_report(measured, vars(args), args.output_dir)
    except (DatasetError, CocoerError, ServerFailed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print((args.output_dir / "accuracy.json").read_text() if args.json else to_markdown(report))
    print(f"written to {args.output_dir}/: accuracy.md, accuracy.json, accuracy.png", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
