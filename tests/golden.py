"""The golden image's inputs, and comparing with the golden outputs. Used at every rung: PyTorch, ONNX, served."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from benchmarks.golden import LOGITS, inputs, person_rows
from cocoer.labels import EMOTIC_LABELS

__all__ = ["LOGITS", "check", "check_labels", "inputs", "max_errors", "person_rows", "refined_logits"]

FINAL, LEVEL = 0.26, 0.6


def max_errors(outputs: dict[str, np.ndarray], golden: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest absolute error of each golden array (rows per image are spread over the persons)."""
    found = {key: outputs[tensor] for key, tensor in LOGITS.items()}
    found |= {key: outputs[key] for key in ("losses", "lambda_w1", "lambda_b1", "lambda_w2", "lambda_b2")}
    found["grad_distance"] = outputs["grad_distance"][:, 0]
    return {key: float(np.abs(array - golden[key]).max()) for key, array in found.items()}


def check(outputs: dict[str, np.ndarray], golden: dict[str, np.ndarray], tolerance: float) -> None:
    """Assert golden parity: logits and losses within ``tolerance``, the same exclusion order, the QPs' figures."""
    errors = max_errors(outputs, golden)
    # A nearly flat problem magnifies the rounding of its float32 gradients: 1e-4 in its weights.
    allowed = {key: max(tolerance, 2e-4) if key.startswith("lambda") else tolerance for key in errors}
    print(f"golden parity, tolerance {tolerance:g}:", ", ".join(f"{key} {value:.1e}" for key, value in errors.items()))
    bad = {key: value for key, value in errors.items() if not value <= allowed[key]}
    assert not bad, f"beyond {tolerance}: {bad}"
    assert outputs["order"].tolist() == golden["order"].tolist()


def refined_logits(tensors: Mapping[str, Tensor], golden: dict[str, np.ndarray]) -> np.ndarray:
    """[6, 3, 26]: what each level's last Linear (of the checkpoint) makes of the official code's refined features."""
    levels = []
    for index, level in enumerate(("head", "body", "ctx")):
        weight, bias = (tensors[f"cls_HFE_{level}.4.{name}"].numpy() for name in ("weight", "bias"))
        levels.append(golden["features"][:, 256 * index : 256 * (index + 1)] @ weight.T + bias)
    return np.stack(levels, axis=1)


def check_labels(chosen: list[str], logits: np.ndarray, threshold: float, slack: float = 2e-3) -> None:
    """Assert a list of labels is what the golden logits say, but for those within ``slack`` of the threshold."""
    for label, logit in zip(EMOTIC_LABELS, logits):
        margin = logit - np.log(threshold / (1 - threshold))
        if abs(margin) > slack:
            assert (label in chosen) == (margin > 0), label
    order = [EMOTIC_LABELS.index(label) for label in chosen]
    assert order == sorted(order)
