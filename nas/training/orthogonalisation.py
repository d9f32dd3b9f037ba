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
    """Takes the same five steps, but oblong matrices through A = X Xᵀ alone, and multiplies X once: X ← Z X.

    With P = a I + b A + c A² at each step, Z ← P Z and A ← P A P. For M × 4 M that is 25 products of M × M × M in place
    of 55. In half precision the powers of A lose the small singular values, so there X itself is iterated.
    """
    x = _lying(x_GMN)
    if x.size(2) < GRAM_FROM * x.size(1) or x.dtype != torch.float32:
        return newton_schulz(x_GMN)
    a, b, c = COEFFICIENTS
    gram = x @ x.mT
    factor: Tensor | None = None
    for i in range(STEPS):
        step = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal(dim1=1, dim2=2).add_(a)
        factor = step if factor is None else step @ factor
        if i < STEPS - 1:
            gram = step @ gram @ step
    assert factor is not None
    return _as_it_lay(factor @ x, x_GMN)


def _lying(x_GMN: Tensor) -> Tensor:
    """Turns tall matrices on their side, where X Xᵀ is smaller, and divides each by its norm."""
    # CPUs without bfloat16 units emulate it, eight times slower than fp32.
    half = x_GMN.is_cuda and torch.cuda.is_bf16_supported()
    x = (x_GMN.mT if x_GMN.size(1) > x_GMN.size(2) else x_GMN).to(torch.bfloat16 if half else x_GMN.dtype)
    normed: Tensor = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    return normed


def _as_it_lay(y: Tensor, x_GMN: Tensor) -> Tensor:
    return (y.mT if x_GMN.size(1) > x_GMN.size(2) else y).to(x_GMN.dtype)


ITERATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "newton_schulz": newton_schulz,
    "gram_newton_schulz": gram_newton_schulz,
}
