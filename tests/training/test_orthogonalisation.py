"""The iterations against the exact polar factor, by singular values, and against their plain steps."""

import pytest
import torch
from torch import Tensor

from nas.training.orthogonalisation import COEFFICIENTS, ITERATIONS, gram_newton_schulz

SHAPES = [(1, 8, 8), (3, 16, 8), (2, 8, 24), (2, 48, 8), (1, 5, 7)]
LARGE = [(2, 64, 64), (1, 65, 70), (2, 64, 160), (1, 128, 64)]
"""Shapes for which the iteration through the Gram matrix takes four steps."""
each_iteration = pytest.mark.parametrize("iteration", ITERATIONS.values(), ids=ITERATIONS)


def random(shape: tuple[int, int, int]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def plainly(x: Tensor, steps: int = 5, order: int = 2) -> Tensor:
    """Takes the steps on one matrix as they are defined, in double precision, whatever side is longer.

    They start from x over the norm of that order of its singular values.
    """
    a, b, c = COEFFICIENTS
    x = x.double() / torch.linalg.svdvals(x.double()).norm(order)
    for _ in range(steps):
        x = a * x + b * x @ x.T @ x + c * x @ x.T @ x @ x.T @ x
    return x.float()


@each_iteration
@pytest.mark.parametrize("shape", SHAPES)
def test_directions_stay_and_singular_values_become_about_equal(iteration, shape):
    x_GMN = random(shape)
    u, _, vh = torch.linalg.svd(x_GMN, full_matrices=False)
    inner = u.mT @ iteration(x_GMN) @ vh.mT
    level = inner.diagonal(dim1=1, dim2=2)
    assert ((level > 0.6) & (level < 1.25)).all()
    torch.testing.assert_close(inner, torch.diag_embed(level), atol=1e-4, rtol=0)


@each_iteration
@pytest.mark.parametrize("shape", SHAPES)
def test_the_iteration_equals_its_plain_steps(iteration, shape):
    x_GMN = random(shape)
    torch.testing.assert_close(iteration(x_GMN), torch.stack([plainly(x) for x in x_GMN]), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("shape", LARGE)
def test_four_steps_equal_their_plain_ones(shape):
    x_GMN = random(shape)
    expected = torch.stack([plainly(x, steps=4, order=8) for x in x_GMN])
    torch.testing.assert_close(gram_newton_schulz(x_GMN), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("shape", [(1, 64, 64), (1, 64, 160)])
@pytest.mark.parametrize("scale", [1e-5, 1e9])
def test_four_steps_do_not_depend_on_the_scale_of_the_gradient(shape, scale):
    x_GMN = random(shape)
    torch.testing.assert_close(gram_newton_schulz(scale * x_GMN), gram_newton_schulz(x_GMN), atol=2e-2, rtol=1e-2)
    assert not gram_newton_schulz(0 * x_GMN).any()


@each_iteration
def test_small_singular_values_are_as_exact_as_in_double_precision(iteration):
    u, _, vh = torch.linalg.svd(random((1, 32, 128)), full_matrices=False)
    x_GMN = u * torch.logspace(0, -4, 32) @ vh
    torch.testing.assert_close(iteration(x_GMN)[0], plainly(x_GMN[0]), atol=2e-3, rtol=0)


@each_iteration
def test_the_scale_does_not_matter(iteration):
    x_GMN = random((2, 8, 24))
    expected = iteration(x_GMN)
    torch.testing.assert_close(iteration(1e4 * x_GMN), expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(iteration(1e-3 * x_GMN), expected, atol=1e-3, rtol=1e-3)
    assert not iteration(0 * x_GMN).any()
