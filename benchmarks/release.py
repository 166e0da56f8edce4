"""The baseline: what the release's inference does for each person, done faithfully.

For every person the whole network runs again (context, CLIP and V-I too), the V-I head in its unfolded form and
twice; each level's classifier is deep-copied and stepped by autograd on retained graphs; the four QPs are solved with
cvxopt. Two things are done better than there, in the baseline's favour: evaluation mode without colour jitter (the
contract), and no graph is kept of the trunks.
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

from cocoer.coordination import exclusion_order, pseudo_labels
from cocoer.levels import LevelEncoder, PersonEncoder
from cocoer.model import CocoER, imagenet_normalise
from cocoer.vi_head import REPEATS
from cocoer.weights import Checkpoint

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

    def person(self, windows: dict[str, np.ndarray], boxes: dict[str, Sequence[float]]) -> dict[str, Any]:
        """Recognise one person.

        Args:
            windows: "context", "head", "body" -> UINT8 [224, 224, 3], BGR.
            boxes: "head", "body" -> (x1, y1, x2, y2) in the 224 square.

        Returns:
            ``logits`` [26], ``order`` [3], ``losses`` [3], ``lambdas`` (w1, b1, w2, b2), as NumPy.
        """
        with torch.no_grad():
            tensors = {name: self.normalise(torch.from_numpy(pixels)[None]) for name, pixels in windows.items()}
            inputs = self._level_inputs(tensors, boxes)
            self._vi(tensors["context"])  # once for the pseudo-label, once for the feature
            vi_logits, vi_feature = self._vi(tensors["context"])
        labels, weights = pseudo_labels(vi_logits)
        levels = [
            self._coordinate(inputs[level], encoder, labels, weights) for level, encoder in self._encoders().items()
        ]
        losses = torch.stack([level["loss"] for level in levels])
        order = exclusion_order(losses[None])[0]
        lambdas = self._weigh(levels, losses, order)
        with torch.no_grad():
            features = torch.cat([*(level["refined"] for level in levels), vi_feature], dim=-1)
            logits = self.model.fusion.classifier(features)
        return {"logits": logits[0].numpy(), "order": order.numpy(), "losses": losses.numpy(), "lambdas": lambdas}

    def _encoders(self) -> dict[str, LevelEncoder]:
        model = self.model
        return {"head": model.head_encoder, "body": model.body_encoder, "context": model.context_encoder}

    def _level_inputs(self, windows: dict[str, Tensor], boxes: dict[str, Sequence[float]]) -> dict[str, Tensor]:
        """What each level's classifier reads, [1, 12544]."""
        context = self.model.context_encoder
        tokens = context.tokenise(windows["context"])
        grid = context.position.tokens()
        x = tokens
        for block in context.blocks:
            x = block(x, grid, x, grid)
        found = {"context": context.norm(x).flatten(1)}
        for level in ("head", "body"):
            encoder: PersonEncoder = getattr(self.model, f"{level}_encoder")
            x = encoder.tokenise(windows[level])
            position = encoder.position.roi_tokens(torch.tensor([boxes[level]], dtype=torch.float32))
            for block in encoder.blocks:
                x = block(x, position, tokens, grid)
            found[level] = encoder.norm(x).flatten(1)
        return found

    def _vi(self, image: Tensor) -> tuple[Tensor, Tensor]:
        head = self.model.vi_head
        aligned = head.alignment(head.clip(image)).repeat(1, REPEATS)
        feature = head.ffn[2:5](self.wide(head.ffn[0](aligned)))
        return head.ffn[5](feature), feature

    def _coordinate(self, x: Tensor, encoder: LevelEncoder, labels: Tensor, weights: Tensor) -> dict[str, Any]:
        """One level: its loss, the gradients of its last Linear, and the feature after a gradient step on its first."""
        classifier = copy.deepcopy(encoder.classifier).requires_grad_(True)
        first, last = list(classifier[1].parameters()), list(classifier[4].parameters())
        logits = classifier(x)
        loss = F.binary_cross_entropy_with_logits(logits, labels, weight=weights, reduction="sum")
        last_gradients = torch.autograd.grad(loss, last, retain_graph=True)
        first_gradients = torch.autograd.grad(loss, first, retain_graph=True)
        with torch.no_grad():
            for parameter, gradient in zip(first, first_gradients):
                parameter.sub_(gradient)
            refined = classifier[:4](x)
        return {"loss": loss.detach(), "last": [gradient.flatten() for gradient in last_gradients], "refined": refined}

    def _weigh(self, levels: list[dict[str, Any]], losses: Tensor, order: Tensor) -> list[np.ndarray]:
        """The QPs of weights and biases over three levels, then over the two that stay."""
        stay = sorted(order[1:].tolist())
        return [
            solve_simplex(torch.stack([levels[index]["last"][kind] for index in chosen]), losses[chosen])
            for chosen in ([0, 1, 2], stay)
            for kind in (0, 1)
        ]


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
