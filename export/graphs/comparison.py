"""An ONNX file's outputs beside its reference's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
import torch

from cocoer_bls.inputs import Tensors
from export.precision import Precision

Pairs = dict[str, tuple[np.ndarray, np.ndarray]]
Compare = Callable[[Tensors], Pairs]
"""Inputs -> what was compared, and its two values: the model's, the reference's."""


class Session(Protocol):
    """A graph that can be run: ONNX Runtime's session, or ``export.precision.bf16``'s."""

    def run(self, output_names: Sequence[str], inputs: Tensors, /) -> list[np.ndarray]:
        """Outputs by name."""


def torch_comparison(
    session: Session, outputs: Sequence[str], module: torch.nn.Module, order: Sequence[str]
) -> Compare:
    """A graph, of some precision, against the FP32 module it was exported from.

    Args:
        session: the graph.
        outputs: their names.
        module: takes the inputs in their order.
        order: names of the inputs.
    """

    @torch.no_grad()
    def compare(inputs: Tensors) -> Pairs:
        expected = module(*(torch.from_numpy(inputs[name]) for name in order))
        expected = expected if isinstance(expected, tuple) else (expected,)
        values = session.run(outputs, inputs)
        return {name: (value, x.numpy()) for name, value, x in zip(outputs, values, expected)}

    return compare


def onnx_session(
    model: Path | bytes, precision: Precision = "fp32", providers: Sequence[Any] = ()
) -> ort.InferenceSession:
    """An ONNX file, or what would be in it, in ONNX Runtime, by ``providers`` and else on the CPU.

    At its highest level of optimisation ONNX Runtime crashes on FP16 transformer graphs there.
    """
    options = ort.SessionOptions()
    if precision == "fp16":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=[*providers, "CPUExecutionProvider"])
