"""What the models do on a GPU: parity on the device, each model by batch size, images end to end, and the ceilings.

    python benchmarks/run.py --gpu [--device cpu]

Meant to take under eight minutes once the models are built (they are kept), and needs no Triton. ``--device cpu``
proves the script where there is no GPU; its figures are of no use.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.device import Device
from benchmarks.golden import LOGITS, inputs
from benchmarks.inprocess import boxes_given, job_of
from benchmarks.machine import cores
from benchmarks.runners import OnnxRunner, Runner, TensorRTRunner, TorchRunner
from benchmarks.workloads import BOXES_GIVEN, SAMPLE
from cocoer.checkpoints.loader import load_checkpoint
from cocoer.network.model import CocoER
from cocoer_bls.images import decode
from cocoer_bls.inputs import Tensors, recognition_inputs
from cocoer_bls.options import DEFAULT_LIMITS
from export import build_engines
from export.build_engines import progress
from export.models import (
    BODY_ENCODER,
    CONTEXT_ENCODER,
    FUSION,
    HEAD_ENCODER,
    MODELS,
    RECOGNITION,
    VI_HEAD,
    Model,
    model,
)
from export.models.base import NetworkModel
from export.plans.tensorrt import TensorRTMissing, load_tensorrt
from export.precision import Precision

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "data" / "astronaut_seed0.npz"
TOLERANCES = {"fp32": 2e-3, "fp16": 5e-2}
"""On logits, against the official code's outputs: served end to end; in half precision."""
PLAN_VARIANTS = {"exact": (), "version-compatible": ("--version-compatible",)}
"""Name -> options of the build: plans for the TensorRT that is here, and for later ones."""
TWO = BOXES_GIVEN[1]
"""An image with two persons."""


def build(checkpoints: Path, repository: Path, precision: Precision, *options: str) -> dict[str, Any]:
    """Bring a repository up to date; what is, is kept. The build's report, of a failed one as well."""
    command = ["--checkpoints", str(checkpoints), "--repository", str(repository), "--precision", precision]
    with redirect_stdout(io.StringIO()) as printed:
        code = build_engines.main([*command, *options, "--json"])
    if code and not printed.getvalue():
        raise BuildFailed(f"{repository.name} could not be built")  # the command has said why
    report: dict[str, Any] = json.loads(printed.getvalue())
    if any(row["status"] == "failed" for row in report["engines"]):
        raise BuildFailed(f"{repository.name} could not be built")
    return report


def plan_repository(repository: Path, variant: str) -> Path:
    """Where the plans of a variant are built."""
    return repository.with_name(f"{repository.name}-{variant}")


def build_plans(
    checkpoints: Path, repository: Path, precision: Precision, *options: str
) -> dict[str, list[dict[str, Any]]]:
    """Build the plans of each variant from the same ONNX files, as the command does, and check each on this machine.

    Args:
        checkpoints: of the models.
        repository: whose ONNX files are up to date.
        precision: of these.
        options: more of the build's.

    Returns:
        variant -> rows of its plans, as the build reports them.
    """
    found = {}
    for variant, own in PLAN_VARIANTS.items():
        progress(f"building {precision} plans, {variant}")
        target = plan_repository(repository, variant)
        more = ("--reuse", str(repository), "--backend", "tensorrt", *own, *options)
        found[variant] = build(checkpoints, target, precision, *more)["plans"]
    return found


class BuildFailed(Exception):
    """The models can't be built."""


def has_tensorrt(device: Device) -> bool:
    """Whether plans can be built and run here."""
    try:
        load_tensorrt()
    except TensorRTMissing as error:
        if device.is_gpu:
            progress(f"without TensorRT plans: {error}")
        return False
    return device.is_gpu


def recognise(runner: Runner, given: Tensors) -> Tensors:
    """``recognition``, its models one after the other."""
    tensors = dict(given)
    for step in RECOGNITION.steps:
        found = runner.outputs(model(step.model), {own: tensors[name] for own, name in step.inputs.items()})
        tensors |= {step.outputs[name]: array for name, array in found.items() if name in step.outputs}
    return tensors


def golden_inputs() -> tuple[Tensors, Tensors]:
    """The golden image's crops and boxes, and what the official code says of them."""
    golden = dict(np.load(GOLDEN))
    return inputs(decode(SAMPLE.read_bytes(), DEFAULT_LIMITS.decode), golden), golden


def parity(runner: Runner, tolerance: float) -> dict[str, Any]:
    """Largest error on logits against the official code's, and whether the exclusion order is the same."""
    given, golden = golden_inputs()
    found = recognise(runner, given)
    errors = {key: float(np.abs(found[name] - golden[key]).max()) for key, name in LOGITS.items()}
    same = found["order"].tolist() == golden["order"].tolist()
    return {
        "errors": errors,
        "same_order": same,
        "tolerance": tolerance,
        "passed": max(errors.values()) <= tolerance and same,
    }


def sizes(measured: Model, device: Device) -> list[int]:
    """Batch sizes to measure a model at."""
    maximum = max(tensor.rows.maximum for tensor in measured.inputs)
    return [size for size in device.budget.batches if size <= maximum]


def measured_inputs(measured: Model, size: int) -> Tensors:
    """Inputs of ``size`` rows; where images and persons differ, of one image."""
    return measured.example_inputs(images=size if measured.batch else 1, persons=size)


def measure_model(runner: Runner, measured: Model) -> list[dict[str, float]]:
    """Latency and throughput by batch size."""
    rows = []
    for size in sizes(measured, runner.device):
        elapsed = runner.device.median_ms(runner.prepare(measured, measured_inputs(measured, size)))
        rows.append({"batch": size, "ms": elapsed, "per_second": 1000 * size / elapsed})
    return rows


def gflop_of(measured: Model, network: CocoER) -> float:
    """1e9 floating-point operations of a row, counted on the module; a multiply-add is two. Detectors: not counted."""
    if not isinstance(measured, NetworkModel):
        return 0.0
    arrays = [torch.from_numpy(array) for array in measured_inputs(measured, 1).values()]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        measured.module(network, "bgr", "fp32")(*arrays)
    return counter.get_total_flops() / 1e9


def decode_limits(repeats: int) -> dict[str, float]:
    """Images per second that the CPU decodes and cuts crops of (640x480, two persons): a core, all cores."""
    crops_of(0)
    rates = {}
    for name, workers in (("one core", 1), ("all cores", cores())):
        started = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(crops_of, range(repeats * workers)))
        rates[name] = repeats * workers / (time.perf_counter() - started)
    return rates


def crops_of(_index: int) -> Tensors:
    """What ``recognition`` takes of an image with two persons."""
    job = job_of(TWO)
    return recognition_inputs([(job.image, boxes_given(TWO, job))])


def joined(images: Sequence[Tensors]) -> Tensors:
    """Images in one call."""
    arrays = {name: np.concatenate([one[name] for one in images]) for name in images[0]}
    persons = [len(one["image_index"]) for one in images]
    return {**arrays, "image_index": np.repeat(np.arange(len(images)), persons)}


def end_to_end(device: Device, network: CocoER, precision: Precision) -> dict[str, float]:
    """JPEG to logits in this process: decoding on all cores, recognition in batches on the device, side by side."""
    parts: tuple[NetworkModel, ...] = (CONTEXT_ENCODER, VI_HEAD, HEAD_ENCODER, BODY_ENCODER, FUSION)
    graphs = {part.name: part.module(network, "bgr", precision).to(device.torch) for part in parts}

    @torch.inference_mode()
    def recognised(arrays: Tensors) -> Any:
        x = {name: torch.from_numpy(array).to(device.torch, non_blocking=True) for name, array in arrays.items()}
        tokens, *context = graphs["context_encoder"](x["image"])
        vi = graphs["vi_head"](x["image"])
        own = tokens[x["image_index"]]
        head, body = (graphs[f"{kind}_encoder"](x[f"{kind}_crop"], x[f"{kind}_box"], own) for kind in ("head", "body"))
        return graphs["fusion"](*head, *body, *context, *vi, x["image_index"])[0].cpu()

    count, together = device.budget.images, device.budget.together
    recognised(joined([crops_of(0)] * together))  # warm
    started = time.perf_counter()
    with ThreadPoolExecutor(cores()) as pool:
        waiting: list[Tensors] = []
        for crops in pool.map(crops_of, range(count)):
            waiting.append(crops)
            if len(waiting) == together:
                recognised(joined(waiting))
                waiting = []
    elapsed = time.perf_counter() - started
    return {"images": count, "images_per_second": count / elapsed, "persons_per_second": 2 * count / elapsed}


def report(device: Device, checkpoints: Path, cache: Path) -> dict[str, Any]:
    """Measure everything; see the module."""
    started = time.perf_counter()
    plans = has_tensorrt(device)
    progress("ceilings")
    ceilings = device.ceilings().to_dict()
    network = CocoER.from_checkpoint(load_checkpoint(checkpoints))
    found: dict[str, Any] = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": device.describe(),
        "ceilings": ceilings,
        "decode": decode_limits(device.budget.images // 8 or 1),
        "gflop": {one.name: gflop_of(one, network) for one in MODELS},
        "precisions": {},
    }
    building = 0.0
    measured: tuple[Precision, ...] = ("fp32", "fp16")
    for precision in measured:
        repository = cache / f"repository-gpu-{precision}"
        progress(f"building {precision} models")
        begun = time.perf_counter()
        build(checkpoints, repository, precision)
        built = build_plans(checkpoints, repository, precision) if plans and precision == "fp16" else {}
        building += time.perf_counter() - begun
        found["precisions"][precision] = of_precision(device, repository, precision, network, built) | {"plans": built}
    found["build_seconds"] = round(building, 1)
    found["seconds"] = round(time.perf_counter() - started - building, 1)
    return found


def of_precision(
    device: Device,
    repository: Path,
    precision: Precision,
    network: CocoER,
    plans: Mapping[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    """Everything of one precision; of ``plans``, those variants that passed their build's own check."""
    # PyTorch computes FP16 on a CPU so slowly that it proves nothing.
    by_torch = device.is_gpu or precision == "fp32"
    runners: list[Runner] = [TorchRunner(device, repository, precision, network)] if by_torch else []
    runners += [OnnxRunner(device, repository, precision)] if OnnxRunner.available(device) else []
    for variant, rows in plans.items():
        if rows and all(row["status"] in ("built", "kept") for row in rows):
            own = TensorRTRunner(device, plan_repository(repository, variant), precision)
            own.name = f"TensorRT, {variant} plans"
            runners.append(own)
    found: dict[str, Any] = {"runners": {}}
    for runner in runners:
        progress(f"{precision}: {runner.name}")
        measured = [one for one in MODELS if isinstance(one, NetworkModel) or not isinstance(runner, TorchRunner)]
        found["runners"][runner.name] = {
            "parity": parity(runner, TOLERANCES[precision]),
            "engines": {one.name: measure_model(runner, one) for one in measured},
        }
        runner.close()
    if by_torch:
        progress(f"{precision}: end to end")
        found["end_to_end"] = end_to_end(device, network, precision)
    return found
