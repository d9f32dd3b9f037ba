"""Bounds what one training may come to: a value that at most one trial in 50 beats.

    log(bound − shift) = μ − t · max(√(σ² + noise), ℓ)

μ and σ are the surrogate's prediction. `noise` is the variance of a single training, which the trial has too. ℓ is the
median standard deviation with which the surrogate predicts each fully trained trial from all others (Rasmussen &
Williams 2006, section 5.4.2): it holds where σ is too small beside a like trial. t is the quantile of Student's t with
as many degrees of freedom as there are observations, less the five parameters of the kernel that were fitted to them.

The bound of earlier versions, μ − 2.33 σ, promised one trial in 100. It left out the noise, and took a kernel fitted to
ten trials for the true one. The quantile is still that of one in 100. The promise is one in 50, since errors have
heavier tails than Student's t. `nas bench bounds` counts how often each is beaten (docs/how_it_works.md).

Shapes: N observations, C candidates.
"""

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import stdtrit

from nas.samplers.hypervolume_improvement import LogNormal
from nas.samplers.point_sets import Floats

CONFIDENCE = 0.99
FITTED = 5
"""The number of parameters of the kernel."""


def left_out_sds(factor_NN: Floats) -> Floats:
    """Returns the standard deviation of each observation given all others, (N,): 1 / √(K⁻¹)ᵢᵢ, from K = L Lᵀ."""
    inverse_NN = solve_triangular(factor_NN, np.eye(len(factor_NN)), lower=True, check_finite=False)
    sds_N: Floats = 1.0 / np.sqrt(np.einsum("ij,ij->j", inverse_NN, inverse_NN))
    return sds_N


def bound_of(prediction: LogNormal, noise_sd: float, left_out_N: Floats, count: int) -> Floats:
    """Returns the bound of each candidate, (C,).

    `noise_sd` and `left_out_N` are in the unit of the prediction's logarithm; `left_out_N` are those of the trials that
    were trained to the end. `count` observations were fitted.
    """
    least = float(np.median(left_out_N)) if len(left_out_N) else 0.0
    sd_C = np.maximum(np.hypot(prediction.sd_C, noise_sd), least)
    quantile = float(stdtrit(max(count - FITTED, 1), CONFIDENCE))
    return LogNormal(prediction.mean_C, sd_C, prediction.shift).below(quantile)
