"""Competition and coordination against autograd and plain Python."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cocoer.network.coordination import LevelHead, coordinate, exclusion_order, level_loss, pseudo_labels
from cocoer.network.levels import LevelState

WIDTH = 300
"""Of the activation; the real one is 12,544 wide, which changes nothing but the time."""


def random_level(rng: np.random.Generator) -> tuple[nn.Linear, LevelHead]:
    first, head = nn.Linear(WIDTH, 256).double(), LevelHead().double()
    for parameter in [*first.parameters(), *head.parameters()]:
        parameter.data = torch.from_numpy(rng.standard_normal(tuple(parameter.shape))) * 0.1
    head.norm.weight.data += 1
    return first, head


def step_by_autograd(
    activation: torch.Tensor,
    first: nn.Linear,
    head: LevelHead,
    labels: torch.Tensor,
    weights: torch.Tensor,
    step: float,
) -> torch.Tensor:
    """The release's way, for one person: a gradient step on the first Linear, then the feature again."""
    weight, bias = (parameter.detach().clone().requires_grad_() for parameter in (first.weight, first.bias))
    logits = head.linear(head.norm(F.gelu(F.linear(activation, weight, bias))))
    loss = F.binary_cross_entropy_with_logits(logits, labels, weight=weights, reduction="sum")
    weight_step, bias_step = torch.autograd.grad(loss, (weight, bias))
    return head.norm(F.gelu(F.linear(activation, weight - step * weight_step, bias - step * bias_step))).detach()


@pytest.mark.parametrize("step", [1, 0.1, 0, 2.5])
def test_closed_form_is_autograd(step, rng):
    persons = 4
    parts = [random_level(rng) for _ in range(3)]
    activations = [F.gelu(torch.from_numpy(rng.standard_normal((persons, WIDTH)))) for _ in range(3)]
    vi_logits = torch.from_numpy(3 * rng.standard_normal((persons, 26)))
    with torch.no_grad():
        states = []
        for (first, head), activation in zip(parts, activations):
            hidden = first(activation)
            energy = activation.square().sum(dim=1, keepdim=True) + 1
            states.append(LevelState(hidden, head.linear(head.feature(hidden)), energy))
        refined, *_ = coordinate(states, [head for _, head in parts], vi_logits, step)
    labels, weights = pseudo_labels(vi_logits)
    for (first, head), activation, features in zip(parts, activations, refined):
        for person in range(persons):
            expected = step_by_autograd(activation[person], first, head, labels[person], weights[person], step)
            assert (features[person] - expected).abs().max() < 1e-9


def test_pseudo_labels_and_loss(rng):
    vi_logits = torch.from_numpy(rng.standard_normal((5, 26)))
    labels, weights = pseudo_labels(vi_logits)
    chosen = torch.sigmoid(vi_logits) > 0.3
    assert (labels.bool() == chosen).all()
    assert set(weights[chosen].tolist()) == {1 / math.log(2.2)}
    assert set(weights[~chosen].tolist()) == {1e-4}
    logits = torch.from_numpy(40 * rng.standard_normal((5, 26)))
    expected = F.binary_cross_entropy_with_logits(logits, labels, weight=weights, reduction="none").sum(dim=1)
    torch.testing.assert_close(level_loss(logits, labels, weights), expected)


def test_exclusion_order_with_all_ties():
    """Largest loss first; ties go to head before body before context."""
    losses = torch.tensor(list(itertools.product([0.0, 1.0, 2.0], repeat=3)))
    expected = [sorted(range(3), key=lambda level: (-row[level], level)) for row in losses.tolist()]
    assert exclusion_order(losses).tolist() == expected
