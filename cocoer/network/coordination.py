"""Competition and coordination (CocoER, section 3), in closed form, for all persons at once.

The release finds the refined features by autograd: for each person it copies each level's classifier, takes one
gradient step of size ``s`` (its ``inside_lr``) on its Linear(12544, 256) and runs it again. With ``a`` the layer's
input, ``h`` its output and ``g = dL/dh``, the weight moves by ``-s g a'`` and the bias by ``-s g``, so that the new
output is ``h - s g (|a|^2 + 1)``: no copy, no autograd, and ``a`` itself is not needed.

The release has three such steps: ``inference.py`` takes one of size 1, ``train.py`` sets 0.1, and as it is released
its evaluation takes none at all (0), because the gradient does not reach the layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocoer.labels import EMOTIC_LABELS
from cocoer.network.architecture import CHANNELS
from cocoer.network.levels import LevelState
from cocoer.network.simplex import simplex_qp

PSEUDO_THRESHOLD = 0.3
POSITIVE_WEIGHT = 1 / math.log(2.2)
NEGATIVE_WEIGHT = 1e-4
COORDINATION_STEP = 1.0
"""The step of the release's ``inference.py``."""


class LevelHead(nn.Module):
    """The end of a level's classifier: GELU, LayerNorm, Linear(256, 26), with the derivative written out."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(CHANNELS)
        self.linear = nn.Linear(CHANNELS, len(EMOTIC_LABELS))

    def feature(self, hidden: Tensor) -> Tensor:
        """FP32 [P, 256] to FP32 [P, 256]: what the last Linear reads."""
        return self.norm(F.gelu(hidden))

    def hidden_gradient(self, hidden: Tensor, logit_gradient: Tensor) -> Tensor:
        """dL/d hidden [P, 256] from dL/d logits [P, 26]."""
        activation = F.gelu(hidden)
        centred = activation - activation.mean(dim=-1, keepdim=True)
        inverse_std = torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + self.norm.eps)
        normalised = centred * inverse_std
        upstream = (logit_gradient @ self.linear.weight) * self.norm.weight
        through_norm = inverse_std * (
            upstream
            - upstream.mean(dim=-1, keepdim=True)
            - normalised * (upstream * normalised).mean(dim=-1, keepdim=True)
        )
        return through_norm * _gelu_derivative(hidden)


def _gelu_derivative(x: Tensor) -> Tensor:
    """Phi(x) + x phi(x), of the exact (erf) GELU."""
    cdf = 0.5 * (1 + torch.erf(x * math.sqrt(0.5)))
    pdf = torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return cdf + x * pdf


def pseudo_labels(vi_logits: Tensor) -> tuple[Tensor, Tensor]:
    """The V-I head's multi-hot pseudo-label and the class weights, each [P, 26]."""
    labels = (torch.sigmoid(vi_logits) > PSEUDO_THRESHOLD).to(vi_logits.dtype)
    return labels, labels * POSITIVE_WEIGHT + (1 - labels) * NEGATIVE_WEIGHT


def level_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """``sum_k w_k BCEWithLogits(l_k, t_k)``: [P, 26] each to [P]."""
    per_class = logits.clamp_min(0) - logits * labels + torch.log1p(torch.exp(-logits.abs()))
    return (weights * per_class).sum(dim=-1)


def exclusion_order(losses: Tensor) -> Tensor:
    """Competition (``emo_process``): levels by descending loss, ties in the order of ``LEVELS``.

    Written with comparisons because ONNX's TopK leaves the order of ties to the runtime.

    Args:
        losses: [P, 3], in the order of ``LEVELS``.

    Returns:
        INT64 [P, 3]: the level excluded first, second, last.
    """
    levels = losses.shape[-1]
    index = torch.arange(levels, device=losses.device)
    ahead = losses[:, None, :] > losses[:, :, None]
    ahead |= (losses[:, None, :] == losses[:, :, None]) & (index[None, :] < index[:, None])
    rank = ahead.sum(dim=-1)
    # INT32: ONNX Runtime before 1.20 (Triton's up to 24.11) has no ArgMax of INT64.
    return (rank[:, None, :] == index[:, None]).to(torch.int32).argmax(dim=-1)


class Coordination(NamedTuple):
    """How the levels are weighed (does not reach any prediction; levels as in the QPs below)."""

    lambda_w1: Tensor
    """FP32 [P, 3], weights' QP over head, body, context."""
    lambda_b1: Tensor
    """FP32 [P, 3], biases' QP over head, body, context."""
    lambda_w2: Tensor
    """FP32 [P, 2], weights' QP without the level excluded first, in the order of ``LEVELS``."""
    lambda_b2: Tensor
    """FP32 [P, 2], biases' QP without the level excluded first."""
    grad_distance: Tensor
    """FP32 [P, 1]."""


def coordinate(
    levels: list[LevelState], heads: Iterable[LevelHead], vi_logits: Tensor, step: float = COORDINATION_STEP
) -> tuple[list[Tensor], Tensor, Tensor, Coordination]:
    """Competition and coordination of P persons.

    Args:
        levels: the states of head, body and context, P rows each.
        heads: the ends of their classifiers, in the same order.
        vi_logits: FP32 [P, 26] of each person's image.
        step: of the gradient; 0 leaves the levels as they are.

    Returns:
        the refined features of head, body, context (FP32 [P, 256] each), losses FP32 [P, 3],
        exclusion order INT64 [P, 3], and the coordination weights.
    """
    labels, weights = pseudo_labels(vi_logits)
    losses = torch.stack([level_loss(level.logits, labels, weights) for level in levels], dim=-1)
    order = exclusion_order(losses)

    refined, features, logit_gradients = [], [], []
    for level, head in zip(levels, heads):
        logit_gradient = weights * (torch.sigmoid(level.logits) - labels)
        gradient = head.hidden_gradient(level.hidden, logit_gradient)
        refined.append(head.feature(level.hidden - step * gradient * level.energy))
        features.append(head.feature(level.hidden))
        logit_gradients.append(logit_gradient)
    coordination = coordination_weights(
        torch.stack(logit_gradients, dim=1), torch.stack(features, dim=1), losses, order
    )
    return refined, losses, order, coordination


def coordination_weights(logit_gradients: Tensor, features: Tensor, losses: Tensor, order: Tensor) -> Coordination:
    """The method's QPs over the levels' gradients of their last Linear, and the distance it reports.

    The gradient of level i's last weight is the outer product ``d_i f_i'``, so that the Gram matrix of the flattened
    gradients is ``(d_i . d_j)(f_i . f_j)``.

    Args:
        logit_gradients: FP32 [P, 3, 26], d: dL/d logits of each level.
        features: FP32 [P, 3, 256], f: what each level's last Linear reads.
        losses: FP32 [P, 3].
        order: INT64 [P, 3], from ``exclusion_order``.
    """
    gram_b = logit_gradients @ logit_gradients.transpose(1, 2)
    gram_w = gram_b * (features @ features.transpose(1, 2))
    lambda_w1, lambda_b1 = simplex_qp(gram_w, losses), simplex_qp(gram_b, losses)

    # The two levels that stay, in the order of LEVELS: one is lower than the other.
    remaining = torch.stack([order[:, 1:].amin(dim=1), order[:, 1:].amax(dim=1)], dim=1)
    losses2 = losses.gather(1, remaining)
    lambda_w2 = simplex_qp(_submatrix(gram_w, remaining), losses2)
    lambda_b2 = simplex_qp(_submatrix(gram_b, remaining), losses2)

    stay = (remaining[:, :, None] == torch.arange(losses.shape[1], device=losses.device)).to(losses.dtype)
    distance = _distance(
        _descent_direction(lambda_w1, logit_gradients, features),
        _descent_direction((lambda_w2[:, :, None] * stay).sum(dim=1), logit_gradients, features),
    ) + _distance(
        _descent_direction(lambda_b1, logit_gradients, None),
        _descent_direction((lambda_b2[:, :, None] * stay).sum(dim=1), logit_gradients, None),
    )
    return Coordination(lambda_w1, lambda_b1, lambda_w2, lambda_b2, distance)


def _submatrix(gram: Tensor, index: Tensor) -> Tensor:
    """Rows and columns ``index`` [P, 2] of [P, 3, 3]."""
    rows = gram.gather(1, index[:, :, None].expand(-1, -1, gram.shape[-1]))
    return rows.gather(2, index[:, None, :].expand(-1, index.shape[1], -1))


def _descent_direction(weights: Tensor, logit_gradients: Tensor, features: Tensor | None) -> Tensor:
    """``d = -G'x`` as [26, 256] (biases: [26, 1]), rows L2-normalised, averaged over rows: [P, 256] or [P, 1]."""
    weighted = weights[:, :, None] * logit_gradients
    rows = weighted.sum(dim=1)[:, :, None] if features is None else weighted.transpose(1, 2) @ features
    return F.normalize(-rows, dim=-1, eps=1e-12).mean(dim=1)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """``|d1 + d2|``: [P, C] each to [P, 1]. The sum, not the difference: so does the release."""
    return (first + second).norm(dim=-1, keepdim=True)
