"""Running a plan on this machine's GPU, by NVIDIA's Polygraphy: to hold it against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cocoer_bls.inputs import Tensors
from export.graphs.comparison import Compare, Pairs, onnx_session
from export.models import Model
from export.plans.tensorrt import load_tensorrt
from export.precision import Precision

Run = Callable[[Tensors], Tensors]


def polygraphy_runner(plan: bytes) -> Run:
    """Inputs -> outputs of a plan.

    Raises:
        ImportError: Polygraphy is not installed.
    """
    load_tensorrt()
    from polygraphy.backend.trt import EngineFromBytes, TrtRunner

    runner = TrtRunner(EngineFromBytes(plan))
    runner.activate()

    def run(inputs: Tensors) -> Tensors:
        outputs = runner.infer(inputs)
        return {name: np.array(value) for name, value in outputs.items()}  # its buffers are used again

    return run


def plan_comparison(run: Run, onnx_path: Path, model: Model, precision: Precision) -> Compare:
    """A plan against the ONNX file it was built from, in ONNX Runtime on the CPU."""
    session = onnx_session(onnx_path, precision)
    names = [tensor.name for tensor in model.outputs]

    def compare(inputs: Tensors) -> Pairs:
        values, expected = run(inputs), session.run(names, inputs)
        return {name: (values[name], x) for name, x in zip(names, expected)}

    return compare
