"""The closed-form QP against cvxopt's solver."""

import cvxopt
import numpy as np
import pytest
import torch

from cocoer.network.simplex import simplex_qp

cvxopt.solvers.options.update(show_progress=False, abstol=1e-10, reltol=1e-10, feastol=1e-10)


def solve(gram: np.ndarray, losses: np.ndarray) -> np.ndarray:
    n = len(losses)
    m = cvxopt.matrix
    solution = cvxopt.solvers.qp(m(gram), m(-losses), m(-np.eye(n)), m(np.zeros(n)), m(np.ones((1, n))), m(1.0))
    return np.array(solution["x"]).ravel()


def objective(gram: np.ndarray, losses: np.ndarray, x: np.ndarray) -> float:
    return 0.5 * x @ gram @ x - losses @ x


def random_problems(rng: np.random.Generator, n: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gram matrices and losses of many scales, ranks and degeneracies."""
    grams, all_losses = [], []
    for index in range(count):
        rows = rng.standard_normal((n, rng.integers(1, 6))) * 10 ** rng.uniform(-2, 2)
        losses = np.abs(rng.standard_normal(n)) * 10 ** rng.uniform(-2, 2)
        kind = index % 8
        if kind == 1:
            rows[1] = rows[0]  # two levels agree
        elif kind == 2:
            rows[:] = rows[0]  # all agree
        elif kind == 3:
            rows[1] = -rows[0]  # two cancel
        elif kind == 4:
            rows[rng.integers(n)] = 0  # a level without gradient
        elif kind == 5:
            rows[:], losses = 0, rng.permutation(n).astype(float)  # only the losses decide
        elif kind == 6:
            rows[1], losses[1] = rows[0] * 0.5, losses[0]  # parallel
        elif kind == 7:
            losses[:] = losses[0]  # only the gradients decide
        grams.append(rows @ rows.T)
        all_losses.append(losses)
    return np.array(grams), np.array(all_losses)


@pytest.mark.parametrize("n", [2, 3])
def test_as_good_as_cvxopt(n, rng):
    """3,000 problems each: feasible, and no worse than the solver; equal to it where the optimum is unique."""
    grams, losses = random_problems(rng, n, 3000)
    ours = simplex_qp(torch.from_numpy(grams), torch.from_numpy(losses)).numpy()
    assert (ours >= 0).all()
    np.testing.assert_allclose(ours.sum(axis=1), 1, atol=1e-12)
    unique = 0
    for gram, loss, x in zip(grams, losses, ours):
        theirs = solve(gram, loss)
        scale = max(1.0, np.abs(gram).max(), loss.max())
        assert objective(gram, loss, x) <= objective(gram, loss, theirs) + 1e-9 * scale
        if np.linalg.eigvalsh(gram)[0] > 1e-3 * scale:
            unique += 1
            np.testing.assert_allclose(x, theirs, atol=1e-4)
    assert unique > 300


def test_float32_is_close_enough(rng):
    grams, losses = random_problems(rng, 3, 800)
    exact = simplex_qp(torch.from_numpy(grams), torch.from_numpy(losses)).numpy()
    single = simplex_qp(torch.from_numpy(grams).float(), torch.from_numpy(losses).float()).numpy().astype(float)
    for gram, loss, x, y in zip(grams, losses, exact, single):
        scale = max(np.abs(gram).max(), loss.max())
        assert objective(gram, loss, y) <= objective(gram, loss, x) + 1e-5 * scale


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="2 or 3 variables, got 4"):
        simplex_qp(torch.eye(4), torch.zeros(4))
