"""The golden image's inputs, and comparing with the golden outputs. Used at every rung: PyTorch, ONNX, served.

The official code's outputs are of the release's architecture. Of the tiny CocoER, ``outputs_in_pytorch`` are what
served answers are held to.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from benchmarks.golden import LOGITS, inputs, person_rows
from cocoer.checkpoints.loader import Checkpoint, load_checkpoint
from cocoer.labels import EMOTIC_LABELS
from cocoer.network.model import CocoER
from cocoer.network.normalise import imagenet_normalise

__all__ = [
    "LOGITS",
    "check",
    "check_labels",
    "inputs",
    "logits_of",
    "max_errors",
    "outputs_in_pytorch",
    "person_rows",
    "refined_logits",
    "run_in_pytorch",
]

Golden = dict[str, np.ndarray]

LAMBDAS = ("lambda_w1", "lambda_b1", "lambda_w2", "lambda_b2")
FINAL, LEVEL = 0.26, 0.6
TOLERANCE = 1e-4
"""Of served logits. A coordination step of 0.1 is 5e-3 from one of 1."""
WEIGHTS_TOLERANCE = 2e-4
"""Of the QPs' weights: a nearly flat problem magnifies the rounding of its float32 gradients to 1e-4."""


@torch.no_grad()
def run_in_pytorch(
    checkpoint: Checkpoint, golden: Golden, image: np.ndarray, step: float = 1.0
) -> dict[str, np.ndarray]:
    """``recognition``'s outputs, and the fused ``features``, for the persons whose boxes the golden file has.

    Args:
        checkpoint: of any architecture.
        golden: gives the boxes.
        image: the sample, UINT8 [512, 512, 3], BGR.
        step: the coordination step.
    """
    model, normalise = CocoER.from_checkpoint(checkpoint, step), imagenet_normalise()
    given = {name: torch.from_numpy(array) for name, array in inputs(image, golden).items()}
    fused, head, body, context, vi_logits = model(
        normalise(given["image"]),
        normalise(given["head_crop"]),
        given["head_box"],
        normalise(given["body_crop"]),
        given["body_box"],
        given["image_index"],
    )
    levels = {"head_logits": head.logits, "body_logits": body.logits, "context_logits": context.logits}
    return {name: x.numpy() for name, x in {**fused._asdict(), **levels, "vi_logits": vi_logits}.items()}


def outputs_in_pytorch(checkpoints: Path, golden: Golden, image: np.ndarray) -> Golden:
    """What PyTorch says of the golden persons with other weights, in the form of a golden file."""
    outputs = run_in_pytorch(load_checkpoint(checkpoints), golden, image)
    persons = len(golden["pred"])
    found = {key: np.resize(outputs[tensor], (persons, 26)) for key, tensor in LOGITS.items()}
    found |= {key: outputs[key] for key in ("order", "losses", "features", *LAMBDAS)}
    boxes = {key: golden[key] for key in ("body_box", "head_box")}
    return {**boxes, **found, "grad_distance": outputs["grad_distance"][:, 0]}


def logits_of(probabilities: ArrayLike) -> np.ndarray:
    """The logits behind probabilities, FP64."""
    p = np.asarray(probabilities, dtype=np.float64)
    return np.log(p / (1 - p))


def max_errors(outputs: dict[str, np.ndarray], golden: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest absolute error of each golden array (rows per image are spread over the persons)."""
    found = {key: outputs[tensor] for key, tensor in LOGITS.items()}
    found |= {key: outputs[key] for key in ("losses", *LAMBDAS)}
    found["grad_distance"] = outputs["grad_distance"][:, 0]
    return {key: float(np.abs(array - golden[key]).max()) for key, array in found.items()}


def check(outputs: dict[str, np.ndarray], golden: dict[str, np.ndarray], tolerance: float) -> None:
    """Assert golden parity: logits and losses within ``tolerance``, the same exclusion order, the QPs' figures."""
    errors = max_errors(outputs, golden)
    allowed = {key: max(tolerance, WEIGHTS_TOLERANCE) if key in LAMBDAS else tolerance for key in errors}
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


def check_labels(chosen: list[str], logits: np.ndarray, threshold: float, slack: float = 1e-4) -> None:
    """Assert a list of labels is what the golden logits say, but for those within ``slack`` of the threshold."""
    for label, logit in zip(EMOTIC_LABELS, logits):
        margin = logit - np.log(threshold / (1 - threshold))
        if abs(margin) > slack:
            assert (label in chosen) == (margin > 0), label
    order = [EMOTIC_LABELS.index(label) for label in chosen]
    assert order == sorted(order)
