"""Running a plan on this machine's GPU, by NVIDIA's Polygraphy: to hold it against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cocoer_bls.inputs import Tensors
from export.graphs.comparison import Compare, Pairs, onnx_session
from export.models import Model
from export.plans.tensorrt import load_tensorrt, sentences
from export.precision import Precision

Run = Callable[[Tensors], Tensors]


@contextmanager
def running(plan: bytes) -> Iterator[Run]:
    """Inputs -> outputs of a plan; the GPU's memory is free again after the block.

    Raises:
        TensorRTMissing: there is none.
        PlanBuildError: TensorRT can't load the plan, or fails in the block; has its words.
    """
    load_tensorrt()
    from polygraphy.backend.trt import EngineFromBytes, TrtRunner

    with sentences("can't run the plan"), TrtRunner(EngineFromBytes(plan)) as runner:
        # Its buffers are used again, so the outputs are copied.
        yield lambda inputs: {name: np.array(value) for name, value in runner.infer(inputs).items()}


def plan_comparison(run: Run, onnx_path: Path, model: Model, precision: Precision) -> Compare:
    """A plan against the ONNX file it was built from, in ONNX Runtime on the CPU."""
    session = onnx_session(onnx_path, precision)
    names = [tensor.name for tensor in model.outputs]

    def compare(inputs: Tensors) -> Pairs:
        values, expected = run(inputs), session.run(names, inputs)
        return {name: (values[name], x) for name, x in zip(names, expected)}

    return compare
