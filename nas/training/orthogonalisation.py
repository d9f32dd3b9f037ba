"""Approximates the polar factor U Vᵀ of matrices U Σ Vᵀ by matrix products alone: the update of Muon.

Shapes: G equally shaped matrices, M rows and N columns each, M ≤ N once they lie on their side.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
GRAM_FROM = 2
"""Matrices of at least so many columns a row take fewer products through their Gram matrix."""
FOUR_FROM = 64
"""Matrices of at least so many rows take four steps; smaller ones train worse with four (docs/experiments.md)."""


def newton_schulz(x_GMN: Tensor) -> Tensor:
    """Approximates U Vᵀ of each x = U Σ Vᵀ by five steps X ← a X + (b A + c A²) X, A = X Xᵀ, from X = x / ‖x‖.

    The quintic of Jordan et al. 2024 (kellerjordan.github.io/posts/muon): singular values land in about [0.7, 1.2],
    which trains as well as exact ones. Time O(G · M² N) for M ≤ N: at least 3 · STEPS products.
    """
    a, b, c = COEFFICIENTS
    x = _lying(x_GMN)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return _as_it_lay(x, x_GMN)


def gram_newton_schulz(x_GMN: Tensor) -> Tensor:
    """Takes four steps for matrices of FOUR_FROM rows or more, and oblong ones through A = X Xᵀ alone.

    Four steps do from X = x / (Σ σ⁸)^(1/8), whose largest singular value is nearer to 1 than that of x / ‖x‖. With
    P = a I + b A + c A² at each step, Z ← P Z and A ← P A P; oblong matrices are multiplied once, X ← Z X. For M × 4 M
    that is 21 products of M × M × M in place of 55. In half precision the powers of A lose the small singular values,
    so there `newton_schulz` is taken.
    """
    rows, columns = sorted(x_GMN.shape[1:])
    if x_GMN.dtype != torch.float32 or _has_half(x_GMN):
        return newton_schulz(x_GMN)
    is_tall = x_GMN.size(1) > x_GMN.size(2)
    gram = x_GMN.mT @ x_GMN if is_tall else x_GMN @ x_GMN.mT
    squares = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] + 1e-14
    gram /= squares
    steps, square = STEPS, None
    if rows >= FOUR_FROM:
        steps, square = STEPS - 1, gram @ gram
        level = square.norm(dim=(1, 2), keepdim=True).sqrt() + 1e-7
        squares, gram, square = squares * level, gram / level, square / level**2
    size = squares.sqrt()
    if columns < GRAM_FROM * rows:
        return _plain_steps(x_GMN / size, gram, square, steps)
    factor: Tensor | None = None
    for i in range(steps):
        step = _step(gram, square)
        step.diagonal(dim1=1, dim2=2).add_(COEFFICIENTS[0])
        factor = step if factor is None else step @ factor
        if i < steps - 1:
            gram, square = step @ gram @ step, None
    assert factor is not None
    factor /= size
    return x_GMN @ factor if is_tall else factor @ x_GMN


def _plain_steps(x: Tensor, gram: Tensor, square: Tensor | None, steps: int) -> Tensor:
    """Takes that many steps of X itself. `gram` is its A, of the shorter side, and `square` A², where it is known."""
    is_tall = x.size(1) > x.size(2)
    for i in range(steps):
        if i:
            gram, square = x.mT @ x if is_tall else x @ x.mT, None
        step = _step(gram, square)
        x = torch.baddbmm(x, *((x, step) if is_tall else (step, x)), beta=COEFFICIENTS[0])
    return x


def _step(gram: Tensor, square: Tensor | None) -> Tensor:
    """Returns b A + c A²."""
    _, b, c = COEFFICIENTS
    if square is None:
        return torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    return (b * gram).add_(square, alpha=c)


def _lying(x_GMN: Tensor) -> Tensor:
    """Turns tall matrices on their side, where X Xᵀ is smaller, and divides each by its norm."""
    x = (x_GMN.mT if x_GMN.size(1) > x_GMN.size(2) else x_GMN).to(torch.bfloat16 if _has_half(x_GMN) else x_GMN.dtype)
    normed: Tensor = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    return normed


def _has_half(x_GMN: Tensor) -> bool:
    """Tells whether the steps are taken in bfloat16. CPUs without its units emulate it, eight times as slowly."""
    return x_GMN.is_cuda and torch.cuda.is_bf16_supported()


def _as_it_lay(y: Tensor, x_GMN: Tensor) -> Tensor:
    return (y.mT if x_GMN.size(1) > x_GMN.size(2) else y).to(x_GMN.dtype)


ITERATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "newton_schulz": newton_schulz,
    "gram_newton_schulz": gram_newton_schulz,
}
