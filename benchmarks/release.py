"""The baseline: what the release's inference does for each person (its ``inference.py`` and ``models_sw.py``).

For every person the whole network runs again (context, CLIP and V-I too), the V-I head in its unfolded form and
twice, each level's classifier twice. Nothing switches gradients off and every parameter but CLIP's wants one, so that
the graph of the trunks is kept and each of the six ``backward`` calls (two for each level) runs through the level's
own trunk and the context's. The classifiers are copied, stepped, run again and restored; the four QPs are solved
with cvxopt.

In the baseline's favour: evaluation mode without colour jitter (the contract), nothing drawn or printed, models loaded
once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import cvxopt
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocoer.checkpoints.loader import Checkpoint
from cocoer.network.coordination import exclusion_order, pseudo_labels
from cocoer.network.levels import LevelEncoder, PersonEncoder
from cocoer.network.model import CocoER
from cocoer.network.normalise import imagenet_normalise
from cocoer.network.vi_head import REPEATS

cvxopt.solvers.options["show_progress"] = False


class ReleaseInference:
    """CocoER, a person at a time.

    Args:
        checkpoint: the weights; ``VI_ffn.1.weight`` is used as it is stored, [6656, 26624].
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.model = CocoER.from_checkpoint(checkpoint)
        self.normalise = imagenet_normalise()
        wide = checkpoint.tensors["VI_ffn.1.weight"]
        with torch.device("meta"):
            self.wide = nn.Linear(wide.shape[1], wide.shape[0])
        state = {"weight": wide, "bias": checkpoint.tensors["VI_ffn.1.bias"]}
        self.wide.load_state_dict(state, assign=True)
        self.wide.requires_grad_(True)
        self.model.requires_grad_(True)
        self.model.vi_head.clip.requires_grad_(False)

    def person(self, crops: dict[str, np.ndarray], boxes: dict[str, Sequence[float]]) -> dict[str, Any]:
        """Recognise one person.

        Args:
            crops: "context", "head", "body" -> UINT8 [224, 224, 3], BGR.
            boxes: "head", "body" -> (x1, y1, x2, y2) in the 224 square.

        Returns:
            ``logits`` [26], ``order`` [3], ``losses`` [3], ``lambdas`` (w1, b1, w2, b2), as NumPy.
        """
        encoders = self.encoders()
        kept = {
            level: copy.deepcopy(dict(encoder.classifier.named_parameters())) for level, encoder in encoders.items()
        }
        tensors = {name: self.normalise(torch.from_numpy(pixels)[None]) for name, pixels in crops.items()}
        inputs = self._level_inputs(tensors, boxes)
        logits = {level: encoder.classifier(inputs[level]) for level, encoder in encoders.items()}
        features = {level: encoder.classifier[:4](inputs[level]).clone() for level, encoder in encoders.items()}
        vi_logits, vi_feature = self._vi(tensors["context"])

        labels, weights = pseudo_labels(vi_logits.detach())
        losses, last_gradients = [], []
        for level, encoder in encoders.items():
            loss = F.binary_cross_entropy_with_logits(logits[level], labels, weight=weights, reduction="sum")
            loss.backward(retain_graph=True)
            losses.append(loss)
            last_gradients.append([_gradient(parameter).flatten() for parameter in encoder.classifier[4].parameters()])
        values = torch.stack(losses).detach()
        order = exclusion_order(values[None])[0]
        lambdas = weigh(last_gradients, values, order)
        for level, encoder in encoders.items():
            features[level][0] = _refined(encoder.classifier, losses.pop(0), inputs[level], kept[level])
        fused = self.model.fusion.classifier(torch.cat([*features.values(), vi_feature], dim=-1))
        for encoder in encoders.values():
            encoder.blocks.zero_grad()
        return {
            "logits": fused[0].detach().numpy(),
            "order": order.numpy(),
            "losses": values.numpy(),
            "lambdas": lambdas,
        }

    def encoders(self) -> dict[str, LevelEncoder]:
        """Of head, body and context."""
        model = self.model
        return {"head": model.head_encoder, "body": model.body_encoder, "context": model.context_encoder}

    def _level_inputs(self, crops: dict[str, Tensor], boxes: dict[str, Sequence[float]]) -> dict[str, Tensor]:
        """What each level's classifier reads, [1, 12544]."""
        context = self.model.context_encoder
        tokens = context.tokenise(crops["context"])
        grid = context.position.tokens()
        found = {}
        for level in ("head", "body"):
            encoder: PersonEncoder = getattr(self.model, f"{level}_encoder")
            x = encoder.tokenise(crops[level])
            position = encoder.position.roi_tokens(torch.tensor([boxes[level]], dtype=torch.float32))
            for block in encoder.blocks:
                x = block(x, position, tokens, grid)
            found[level] = encoder.norm(x).flatten(1)
        x = tokens
        for block in context.blocks:
            x = block(x, grid, x, grid)
        return {**found, "context": context.norm(x).flatten(1)}

    def _vi(self, image: Tensor) -> tuple[Tensor, Tensor]:
        head = self.model.vi_head
        aligned = self.repeated(image)
        runs = (head.ffn[2:5](self.wide(head.ffn[0](aligned))) for _ in range(2))  # all of it, then all but the end
        return head.ffn[5](next(runs)), next(runs)

    def repeated(self, image: Tensor) -> Tensor:
        """CLIP's aligned embedding, once for each label, [1, 26 * 1024]."""
        head = self.model.vi_head
        return head.alignment(head.clip(image)).repeat(1, REPEATS)


def weigh(gradients: Sequence[Sequence[Tensor]], losses: Tensor, order: Tensor) -> list[np.ndarray]:
    """The QPs of weights and biases over three levels, then over the two that stay.

    Args:
        gradients: of each level's last weight and last bias, flat.
        losses, order: [3] of the person.

    Returns:
        lambda_w1 [3], lambda_b1 [3], lambda_w2 [2], lambda_b2 [2].
    """
    stay = sorted(order[1:].tolist())
    return [
        solve_simplex(torch.stack([gradients[index][kind] for index in chosen]), losses[chosen])
        for chosen in ([0, 1, 2], stay)
        for kind in (0, 1)
    ]


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.detach().clone()


def _refined(classifier: nn.Sequential, loss: Tensor, x: Tensor, kept: dict[str, nn.Parameter]) -> Tensor:
    """The level's feature [256] after a gradient step of size 1 on the first Linear, which is then put back."""
    classifier.zero_grad()
    loss.backward(retain_graph=True)
    for parameter in classifier[1].parameters():
        parameter.data = parameter.data - _gradient(parameter)
    feature = classifier[:4](x)[0]
    for name, parameter in classifier.named_parameters():
        parameter.data.copy_(kept[name].data)
    classifier.zero_grad()
    return feature


def solve_simplex(gradients: Tensor, losses: Tensor) -> np.ndarray:
    """``min 1/2 x'GG'x - L'x`` over the simplex, by cvxopt; G [n, m], L [n] to x [n]."""
    count = len(losses)
    gram = (gradients @ gradients.T).double().numpy()
    matrix = cvxopt.matrix
    solution = cvxopt.solvers.qp(
        matrix(gram),
        matrix(-losses.double().numpy()),
        matrix(-np.eye(count)),
        matrix(np.zeros(count)),
        matrix(np.ones((1, count))),
        matrix(1.0),
    )
    return np.array(solution["x"]).ravel()
