"""The engines of ``recognition`` in this process, one after the other, as the ensemble wires them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from export.repository import engine_path
from export.specs import RECOGNITION, engine

Arrays = dict[str, np.ndarray]


class Recognition:
    """Args:
    repository: where the engines are.
    options: ONNX Runtime's, for each.
    """

    def __init__(self, repository: Path, options: ort.SessionOptions | None = None) -> None:
        self.sessions = {
            step.model: ort.InferenceSession(str(engine_path(repository, step.model)), options)
            for step in RECOGNITION.steps
        }

    def run(self, inputs: Arrays) -> Arrays:
        """The ensemble's inputs to all its tensors, by their names there."""
        tensors = dict(inputs)
        for step in RECOGNITION.steps:
            names = [tensor.name for tensor in engine(step.model).outputs]
            feeds = {own: tensors[theirs] for own, theirs in step.inputs.items()}
            tensors |= {step.outputs[n]: x for n, x in zip(names, self.sessions[step.model].run(names, feeds))}
        return tensors
