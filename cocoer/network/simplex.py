"""The levels' quadratic program over the probability simplex, in closed form.

CocoER weighs its levels by solving ``min 1/2 x'Qx - L'x`` with ``Q = GG'`` (G: the levels' flattened gradients, a row
each), ``L`` their losses, ``x >= 0`` and ``sum x = 1``. With two or three variables no solver is needed: the optimum
lies inside the triangle or on one of its edges, and each of these has a formula. Batched; no branch, so it exports.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EDGES = ((0, 1), (1, 2), (0, 2))


def simplex_qp(gram: Tensor, losses: Tensor) -> Tensor:
    """Minimise ``1/2 x'Qx - L'x`` over the simplex.

    Args:
        gram: [..., n, n], Q, symmetric positive semidefinite; n is 2 or 3.
        losses: [..., n], L.

    Returns:
        [..., n], x. Where the optimum is not unique (parallel gradients), one of the optima.

    Raises:
        ValueError: n is neither 2 nor 3.
    """
    levels = losses.shape[-1]
    if levels == 2:
        return _edge(gram, losses, 0, 1)
    if levels != 3:
        raise ValueError(f"simplex_qp solves 2 or 3 variables, got {levels}")
    # Scale-free: x does not change when Q and L are divided by one number, and float32 stays in range.
    # Not gram.diagonal(): its export is an EyeLike of dynamic size, which TensorRT does not take.
    diagonal = torch.stack([gram[..., i, i] for i in range(levels)], dim=-1)
    scale = diagonal.amax(dim=-1).clamp_min(torch.finfo(gram.dtype).tiny)
    gram, losses = gram / scale[..., None, None], losses / scale[..., None]

    candidates = torch.stack([_edge(gram, losses, i, j) for i, j in _EDGES], dim=-2)
    product = (candidates[..., None, :] @ gram[..., None, :, :]).squeeze(-2)
    values = (candidates * (0.5 * product - losses[..., None, :])).sum(dim=-1)
    choice = values.argmin(dim=-1)[..., None, None].expand(*losses.shape[:-1], 1, levels)
    boundary = candidates.gather(-2, choice).squeeze(-2)

    interior, inside = _interior(gram, losses)
    return torch.where(inside[..., None], interior, boundary)


def _edge(gram: Tensor, losses: Tensor, i: int, j: int) -> Tensor:
    """The optimum on the edge between vertices i and j, ends included; [..., n]."""
    curvature = gram[..., i, i] + gram[..., j, j] - 2 * gram[..., i, j]
    slope = gram[..., j, j] - gram[..., i, j] + losses[..., i] - losses[..., j]
    # A flat edge is linear: the better end. Rounding may make a zero curvature slightly negative.
    flat = curvature <= torch.finfo(gram.dtype).eps * (gram[..., i, i] + gram[..., j, j])
    linear = losses[..., i] - losses[..., j] - 0.5 * (gram[..., i, i] - gram[..., j, j])
    share = torch.where(flat, (linear > 0).to(gram.dtype), slope / torch.where(flat, 1, curvature))
    share = share.clamp(0, 1)
    shares = [torch.zeros_like(share) for _ in range(losses.shape[-1])]
    shares[i], shares[j] = share, 1 - share
    return torch.stack(shares, dim=-1)


def _interior(gram: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """The optimum on the plane sum x = 1 of three variables [..., 3], and whether it lies inside the triangle [...].

    With x_2 = 1 - x_0 - x_1 the problem is a 2x2 linear system. Where that is singular, an optimum lies on an edge
    as well (the objective is linear along the null direction), so "not inside" is a right answer.
    """
    last = gram[..., 2, 2]
    a = gram[..., 0, 0] + last - 2 * gram[..., 0, 2]
    b = gram[..., 1, 1] + last - 2 * gram[..., 1, 2]
    c = gram[..., 0, 1] + last - gram[..., 0, 2] - gram[..., 1, 2]
    r = losses[..., 0] - losses[..., 2] + last - gram[..., 0, 2]
    s = losses[..., 1] - losses[..., 2] + last - gram[..., 1, 2]
    determinant = a * b - c * c
    singular = determinant <= 8 * torch.finfo(gram.dtype).eps * a * b
    divisor = torch.where(singular, 1, determinant)
    x0, x1 = (b * r - c * s) / divisor, (a * s - c * r) / divisor
    x = torch.stack([x0, x1, 1 - x0 - x1], dim=-1)
    return x, (x >= 0).all(dim=-1) & ~singular
