"""An ONNX file's outputs beside its reference's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from cocoer_bls.inputs import Tensors
from export.precision import Precision

Pairs = dict[str, tuple[np.ndarray, np.ndarray]]
Compare = Callable[[Tensors], Pairs]
"""Inputs -> what was compared, and its two values: the model's, the reference's."""


def torch_comparison(path: Path, outputs: Sequence[str], module: torch.nn.Module, precision: Precision) -> Compare:
    """An ONNX file, of some precision, against the FP32 module it was exported from."""
    session = onnx_session(path, precision)
    order = [value.name for value in session.get_inputs()]

    @torch.no_grad()
    def compare(inputs: Tensors) -> Pairs:
        expected = module(*(torch.from_numpy(inputs[name]) for name in order))
        expected = expected if isinstance(expected, tuple) else (expected,)
        values = session.run(outputs, inputs)
        return {name: (value, x.numpy()) for name, value, x in zip(outputs, values, expected)}

    return compare


def onnx_session(path: Path, precision: Precision, providers: Sequence[Any] = ()) -> ort.InferenceSession:
    """An ONNX file in ONNX Runtime, by ``providers`` and else on the CPU.

    At its highest level of optimisation ONNX Runtime crashes on FP16 transformer graphs there.
    """
    options = ort.SessionOptions()
    if precision == "fp16":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return ort.InferenceSession(str(path), options, providers=[*providers, "CPUExecutionProvider"])
