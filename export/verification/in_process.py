"""An ensemble in this process: its models one after the other, wired as Triton wires them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort

from cocoer_bls.inputs import Tensors
from export.models import Ensemble, model
from export.precision.bf16 import Bf16Session
from export.publishing.layout import onnx_path


class InProcessEnsemble:
    """The models of an ensemble, from a built repository.

    Args:
        ensemble: which.
        repository: where its models are.
        options: ONNX Runtime's, for each of them.
        in_bf16: run by OpenVINO, in bf16, what a build in bf16 runs so.
    """

    def __init__(
        self, ensemble: Ensemble, repository: Path, options: ort.SessionOptions | None = None, in_bf16: bool = False
    ) -> None:
        self.steps = ensemble.steps
        self.sessions: dict[str, Any] = {}
        for step in self.steps:
            path = onnx_path(repository, step.model)
            bf16 = in_bf16 and model(step.model).in_bf16
            self.sessions[step.model] = Bf16Session(path) if bf16 else ort.InferenceSession(str(path), options)

    def run(self, inputs: Tensors) -> Tensors:
        """The ensemble's inputs to all its tensors, by their names there."""
        tensors = dict(inputs)
        for step in self.steps:
            names = [tensor.name for tensor in model(step.model).outputs]
            feeds = {own: tensors[theirs] for own, theirs in step.inputs.items()}
            tensors |= {step.outputs[n]: x for n, x in zip(names, self.sessions[step.model].run(names, feeds))}
        return tensors
