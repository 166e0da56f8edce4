"""Threads of models that run side by side, in this process: the same two sessions with other counts, in turn.

    python -m benchmarks.threads --repository model_repository person_detector face_detector

Prints the fastest of each count, in milliseconds: with threads that spin while they wait, as ONNX Runtime's do unless
told otherwise (and as Triton's native backend has them), and with threads that sleep, as this project's stand-in has.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path
from threading import Thread

import onnxruntime as ort
from tabulate import tabulate

from benchmarks.machine import cores
from cocoer_bls.inputs import Tensors
from export.models import model

Pair = tuple[ort.InferenceSession, ort.InferenceSession]


def session(graph: Path, threads: int, spin: bool) -> ort.InferenceSession:
    """A session of an ONNX file."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def side_by_side(pair: Pair, feeds: tuple[Tensors, Tensors]) -> float:
    """Milliseconds until both are done."""
    started = time.perf_counter()
    other = Thread(target=lambda: pair[0].run(None, feeds[0]))
    other.start()
    pair[1].run(None, feeds[1])
    other.join()
    return 1000 * (time.perf_counter() - started)


def main() -> int:
    """Entry point; takes ``sys.argv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs=2, metavar="MODEL")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--rounds", type=int, default=10, help="in turn (default: 10)")
    args = parser.parse_args()
    first, second = args.models
    feeds = (model(first).example_inputs(1, 1), model(second).example_inputs(1, 1))
    graphs = [args.repository / name / "1" / "model.onnx" for name in (first, second)]
    counts = sorted({1, max(1, cores() // 2), cores()})
    pairs = {
        (one, other, spin): (session(graphs[0], one, spin), session(graphs[1], other, spin))
        for one, other, spin in product(counts, counts, (True, False))
    }
    times: dict[tuple[int, int, bool], list[float]] = {key: [] for key in pairs}
    for _ in range(args.rounds):
        for key, pair in pairs.items():
            side_by_side(pair, feeds)  # another pair's threads may still spin
            times[key].append(side_by_side(pair, feeds))
    rows = [
        [one, other, min(times[one, other, True]), min(times[one, other, False])]
        for one, other in product(counts, counts)
    ]
    print(f"onnxruntime {ort.__version__}, {cores()} cores")
    print(tabulate(rows, [first, second, "spinning ms", "sleeping ms"], floatfmt=".0f"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
