"""What bf16 gains on this CPU: FP32 by ONNX Runtime, bf16 by OpenVINO, and the release's way, asked in turn.

    python -m benchmarks.bf16 --checkpoints DIR --fp32 REPOSITORY --bf16 REPOSITORY [--output DIR]

Both repositories are builds of these checkpoints with SCRFD. First each model in this process, at batches of 1, 4 and
8; then whole requests, without a server and with one of each repository. Whatever is compared alternates within a
round, so that a busy machine is so for all; ``bf16_report`` says of the rounds what the targets are about.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime as ort

from benchmarks import machine
from benchmarks.bf16_report import (
    BF16,
    BURST,
    CONCURRENCY,
    DETECTED,
    FOUR,
    FP32,
    ONE,
    RELEASE,
    REQUESTS,
    Times,
    to_markdown,
)
from benchmarks.inprocess import boxes_given, job_of, release_request
from benchmarks.release import ReleaseInference
from benchmarks.release_detection import ReleaseDetection
from benchmarks.run import one_person
from benchmarks.turns import spread
from benchmarks.workloads import BOXES_GIVEN, Workload
from cocoer.checkpoints.loader import load_checkpoint
from cocoer_bls.images import LETTERBOX
from cocoer_bls.inputs import MIN_SCORE, Tensors, detection_inputs, recognition_inputs
from cocoer_client import CocoerClient
from export.build_engines import progress
from export.files import write_json, write_text
from export.models import DETECTION, MODELS, RECOGNITION, Model
from export.precision import bf16
from export.publishing.layout import onnx_path
from export.verification.in_process import InProcessEnsemble
from serving.server import TritonServer

PARTS = ("models", "ensembles", "served")
BATCHES = (1, 4, 8)


def in_turn(runs: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Milliseconds of each call; every round has each of them once, and begins with another."""
    times: Times = defaultdict(list)
    order = list(runs)
    for index in range(-1, rounds):  # the first is to warm up
        for name in (*order[index % len(order) :], *order[: index % len(order)]):
            started = time.perf_counter()
            runs[name]()
            if index >= 0:
                times[name].append(1000 * (time.perf_counter() - started))
    for name, each in times.items():  # at once: the whole takes long, and may be cut short
        progress(f"  {name}: {spread(each, 1)} ms")
    return dict(times)


def real_enough(model: Model, batch: int) -> Tensors:
    """Random inputs; those of a batch are all in one image, as the server sends them."""
    return model.example_inputs(images=batch if model.batch else 1, persons=batch, seed=batch)


def session_options(threads: int) -> ort.SessionOptions:
    """ONNX Runtime's, as the stand-in for its backend sets them."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.dynamic_block_base", "4")
    return options


def models_in_process(repositories: Mapping[str, Path], threads: int, rounds: int) -> Iterator[tuple[str, int, Times]]:
    """Each model that computes, from both builds; in bf16 those as well that its build serves in FP32."""
    options = session_options(threads)
    for model in MODELS:
        if model.name == "context_gather":
            continue
        outputs = [tensor.name for tensor in model.outputs]
        one = ort.InferenceSession(str(onnx_path(repositories[FP32], model.name)), options)
        other = bf16.Bf16Session(onnx_path(repositories[BF16], model.name), INFERENCE_NUM_THREADS=threads)
        for batch in BATCHES:
            progress(f"{model.name}, {batch} at once")
            inputs = real_enough(model, batch)
            runs: dict[str, Callable[[], object]] = {
                FP32: partial(one.run, outputs, inputs),
                BF16: partial(other.run, outputs, inputs),
            }
            yield model.name, batch, in_turn(runs, rounds)


def ensembles_in_process(checkpoints: Path, repositories: Mapping[str, Path], rounds: int) -> dict[str, Times]:
    """What a request costs in its networks: whole ensembles, one model after the other, and the release's way."""
    release = ReleaseInference(load_checkpoint(checkpoints))
    options = session_options(machine.cores())
    found: dict[str, Times] = {}
    models = {
        (name, ensemble.name): InProcessEnsemble(ensemble, repository, options, in_bf16=name == BF16)
        for name, repository in repositories.items()
        for ensemble in (RECOGNITION, DETECTION)
    }
    for workload in (BOXES_GIVEN[0], BOXES_GIVEN[2]):
        job = job_of(workload)
        inputs = recognition_inputs([(job.image, boxes_given(workload, job))])
        runs: dict[str, Callable[[], object]] = {
            RELEASE: partial(release_request, release, workload),
            **{name: partial(models[name, "recognition"].run, inputs) for name in repositories},
        }
        progress(f"recognition, {workload.name}")
        found[f"recognition, {workload.name}"] = in_turn(runs, rounds)
    letterboxes = detection_inputs([job.image], [MIN_SCORE], LETTERBOX)
    progress("detection")
    found["detection"] = in_turn(
        {name: partial(models[name, "detection"].run, letterboxes) for name in repositories}, rounds
    )
    return found


def request(client: CocoerClient, workload: Workload) -> object:
    """One answer of a server."""
    given = [{"body": row[:4].tolist(), "head": row[4:].tolist()} for row in workload.boxes]
    if workload.persons is None:
        return client.infer_raw(workload.jpeg, min_score=workload.min_score)
    return client.infer_raw(workload.jpeg, given)


def burst(client: CocoerClient, workload: Workload) -> None:
    """``REQUESTS`` of them, ``CONCURRENCY`` at a time."""
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(lambda _: request(client, workload), range(REQUESTS)))


def served(checkpoints: Path, repositories: Mapping[str, Path], rounds: int) -> dict[str, Times]:
    """Kind of request -> milliseconds by the release's way and by each server; bursts by the servers alone."""
    release, detection = ReleaseInference(load_checkpoint(checkpoints)), ReleaseDetection(checkpoints)
    detecting, _ = one_person(detection)
    one, _, four, _ = BOXES_GIVEN
    found: dict[str, Times] = {}
    with contextlib.ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clients = {}
        for index, (name, repository) in enumerate(repositories.items()):
            server = stack.enter_context(TritonServer(repository.resolve(), logs / str(index)))
            clients[name] = stack.enter_context(CocoerClient(server.url, timeout=300))
        for name, workload in ((ONE, one), (FOUR, four), (DETECTED, detecting)):
            progress(f"served: {name}")
            finder = detection if workload is detecting else None
            runs: dict[str, Callable[[], object]] = {
                RELEASE: partial(release_request, release, workload, finder),
                **{key: partial(request, client, workload) for key, client in clients.items()},
            }
            found[name] = in_turn(runs, rounds)
            bursts = {key: partial(burst, client, workload) for key, client in clients.items()}
            found[BURST + name] = in_turn(bursts, rounds)
    return found


def main() -> int:
    """Entry point; takes ``sys.argv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--fp32", type=Path, required=True, metavar="REPOSITORY")
    parser.add_argument("--bf16", type=Path, required=True, metavar="REPOSITORY")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=PARTS, help="one of the parts")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write bf16.md and bf16.json there")
    args = parser.parse_args()
    parts = (args.only,) if args.only else PARTS
    threads, repositories = machine.cores(), {FP32: args.fp32, BF16: args.bf16}
    report: dict[str, Any] = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.bf16" + (f" --only {args.only}" if args.only else ""),
        "machine": machine.describe().to_dict(),
        "openvino": bf16.version(),
        "rounds": args.rounds,
        "threads": threads,
        "models": list(models_in_process(repositories, threads, args.rounds)) if "models" in parts else [],
        "ensembles": ensembles_in_process(args.checkpoints, repositories, args.rounds) if "ensembles" in parts else {},
        "served": served(args.checkpoints, repositories, args.rounds) if "served" in parts else {},
    }
    text = to_markdown(report)
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        write_json(args.output / "bf16.json", report)
        write_text(args.output / "bf16.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
