"""An ensemble in this process: its engines one after the other, wired as Triton wires them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from export.models.specs import EnsembleSpec, engine
from export.publishing.repository import engine_path

Arrays = dict[str, np.ndarray]


class InProcessEnsemble:
    """Engines of a built repository.

    Args:
        spec: the ensemble.
        repository: where its engines are.
        options: ONNX Runtime's, for each of them.
    """

    def __init__(self, spec: EnsembleSpec, repository: Path, options: ort.SessionOptions | None = None) -> None:
        self.steps = spec.steps
        self.sessions = {
            step.model: ort.InferenceSession(str(engine_path(repository, step.model)), options) for step in spec.steps
        }

    def run(self, inputs: Arrays) -> Arrays:
        """The ensemble's inputs to all its tensors, by their names there."""
        tensors = dict(inputs)
        for step in self.steps:
            names = [tensor.name for tensor in engine(step.model).outputs]
            feeds = {own: tensors[theirs] for own, theirs in step.inputs.items()}
            tensors |= {step.outputs[n]: x for n, x in zip(names, self.sessions[step.model].run(names, feeds))}
        return tensors
