"""Computes the surrogate's Gaussian process (nas.samplers.surrogate) from one table of distances: a faster form of it.

Both of its kernels depend on the distance between two points alone, so one product of matrices serves both, and each
step of a fit. Points that are only believed in (running trials at their expected values) change no mean, and shrink the
variance:

    mean(x) = k(x, S) K_SS⁻¹ t,     var(x) = k(x, x) − ‖L⁻¹ k(x, S ∪ B)‖²,     L Lᵀ = K over seen S and believed B

One more believed point b needs no new factor: var(x) ← var(x) − cov(x, b)² / (var(b) + noise).

`Surrogate` is the reference; the two agree up to rounding. A study with few running trials uses the reference, since
its rows have to repeat to the last bit whatever this file does.

Shapes: N observations, B believed points, P = N + B, C candidates, D features.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy.optimize
from scipy.linalg import cho_solve, cholesky, solve_triangular

from nas.samplers.hypervolume_improvement import LogNormal
from nas.samplers.point_sets import Floats
from nas.samplers.surrogate import LEAST_NOISE, LEAST_VARIANCE, Observations, Targets, start_kernel

ROOT_5 = math.sqrt(5.0)


@dataclass(frozen=True)
class Covariance:
    """Holds σ₁² Matérn₅⸝₂(d / ℓ₁) + σ₂² RBF(d / ℓ₂), and the variance of the noise beside it."""

    matern: float
    matern_length: float
    rbf: float
    rbf_length: float
    noise: float

    @classmethod
    def of(cls, kernel: Any) -> Self:
        """Reads the kernel of `nas.samplers.surrogate.start_kernel`, whatever its parameters."""
        return cls(*np.exp(kernel.theta).tolist())

    @property
    def variance(self) -> float:
        """Returns the variance at one point, without noise."""
        return self.matern + self.rbf

    def between(self, squared: Floats) -> Floats:
        """Returns the covariances of points at these squared distances, in an array of the same order."""
        near = np.sqrt(squared)
        near *= ROOT_5 / self.matern_length
        found = near * near
        found /= 3.0
        found += near
        found += 1.0
        np.negative(near, out=near)
        found *= np.exp(near, out=near)
        found *= self.matern
        far = squared * (-0.5 / self.rbf_length**2)
        np.exp(far, out=far)
        far *= self.rbf
        found += far
        return found


def squared_distances(rows_ND: Floats, others_PD: Floats) -> Floats:
    """Returns |x|² + |y|² − 2 x·y for each row x and each other y, (N, P); at least 0, whatever is rounded."""
    squared_NP = rows_ND @ others_PD.T
    squared_NP *= -2.0
    squared_NP += np.einsum("nd,nd->n", rows_ND, rows_ND)[:, None]
    squared_NP += np.einsum("pd,pd->p", others_PD, others_PD)[None, :]
    return np.maximum(squared_NP, 0.0, out=squared_NP)


class Process:
    """Predicts as `Surrogate` does, from what was seen and from points that are only believed in."""

    def __init__(
        self, seen: Observations, kernel: Any, least: float = math.inf, believed_BD: Floats | None = None
    ) -> None:
        self.covariance, self.targets = Covariance.of(kernel), Targets.of(seen, least)
        believed_BD = seen.features_ND[:0] if believed_BD is None else believed_BD
        self._centre_D = seen.features_ND.mean(axis=0)
        self._points_PD = np.concatenate([seen.features_ND, believed_BD]) - self._centre_D
        self._count = len(seen)
        cov_PP = self.covariance.between(squared_distances(self._points_PD, self._points_PD))
        doubt_P = np.concatenate([self.targets.noise_N, np.zeros(len(believed_BD))])
        cov_PP[np.diag_indices_from(cov_PP)] = self.covariance.variance + self.covariance.noise + doubt_P + LEAST_NOISE
        self._factor_PP = cholesky(cov_PP, lower=True, check_finite=False)
        seen_NN = self._factor_PP[: self._count, : self._count]
        self._weights_N = cho_solve((seen_NN, True), self.targets.t_N, check_finite=False)

    def predict(self, features_CD: Floats) -> LogNormal:
        """Predicts the true value, without the noise of a single training."""
        return self.over(features_CD).prediction()

    def bound(self, features_CD: Floats) -> Floats:
        """Returns values that at most one training in 50 beats, (C,)."""
        seen_NN = self._factor_PP[: self._count, : self._count]
        return self.targets.bound(self.predict(features_CD), self.covariance.noise, seen_NN)

    def smoothed(self, features_CD: Floats) -> Floats:
        """Returns the median of the prediction: the observations with their noise removed."""
        cov_CN = self._to(features_CD - self._centre_D, self._count)
        return self.targets.values(cov_CN @ self._weights_N)

    def over(self, features_CD: Floats) -> "PoolProcess":
        """Returns the predictions of these candidates, which take in more believed points."""
        rows_CD = features_CD - self._centre_D
        cov_CP = self._to(rows_CD, len(self._points_PD))
        mean_C = cov_CP[:, : self._count] @ self._weights_N
        explained_PC = solve_triangular(self._factor_PP, cov_CP.T, lower=True, check_finite=False)
        return PoolProcess(self, rows_CD, mean_C, explained_PC)

    def _to(self, rows_CD: Floats, count: int) -> Floats:
        return self.covariance.between(squared_distances(rows_CD, self._points_PD[:count]))


class PoolProcess:
    """Holds the predictions of one pool of candidates, on the scale of the targets, (C,) each."""

    def __init__(self, process: Process, rows_CD: Floats, mean_C: Floats, explained_PC: Floats) -> None:
        self.process, self._rows_CD, self._mean_C, self._explained_PC = process, rows_CD, mean_C, explained_PC
        self._variance_C = process.covariance.variance - np.einsum("pc,pc->c", explained_PC, explained_PC)
        self._more: list[Floats] = []
        """Each point believed in since explains this much of the candidates, in standard deviations, (C,) each."""

    def prediction(self, which: Floats | slice = slice(None)) -> LogNormal:
        """Predicts the candidates of these indexes."""
        variance_C = np.maximum(self._variance_C[which], LEAST_VARIANCE)
        return self.process.targets.prediction(self._mean_C[which], np.sqrt(variance_C))

    def median(self, index: int) -> float:
        return float(self.process.targets.values(self._mean_C[[index]])[0])

    def believe(self, index: int) -> None:
        """Takes one of the candidates for observed at its expected value."""
        covariance = self.process.covariance
        cov_C = covariance.between(squared_distances(self._rows_CD, self._rows_CD[[index]]))[:, 0]
        cov_C -= self._explained_PC[:, index] @ self._explained_PC
        for more_C in self._more:
            cov_C -= more_C[index] * more_C
        own = max(float(self._variance_C[index]), 0.0) + covariance.noise + LEAST_NOISE
        more_C = cov_C / math.sqrt(own)
        self._more.append(more_C)
        self._variance_C = self._variance_C - more_C**2


def kernel(fitted: Observations) -> Any:
    """Finds a kernel whose parameters make these observations likeliest, as `nas.samplers.surrogate.kernel` does.

    The same optimiser takes the same steps from the same start, but for rounding.
    """
    found, targets = start_kernel(), Targets.of(fitted)
    squared_NN = squared_distances(*[fitted.features_ND - fitted.features_ND.mean(axis=0)] * 2)
    np.fill_diagonal(squared_NN, 0.0)
    doubt_N = targets.noise_N + LEAST_NOISE

    def unlikeliness(theta: Floats) -> tuple[float, Floats]:
        return _unlikeliness(Covariance(*np.exp(theta).tolist()), squared_NN, targets.t_N, doubt_N)

    bounds = found.bounds
    found.theta = scipy.optimize.minimize(unlikeliness, found.theta, method="L-BFGS-B", jac=True, bounds=bounds).x
    return found


def _unlikeliness(at: Covariance, squared_NN: Floats, t_N: Floats, doubt_N: Floats) -> tuple[float, Floats]:
    """Returns −log p(t) and its gradient by the logarithms of the five parameters.

    log p = −½ tᵀK⁻¹t − Σ ln L_ii − ½ N ln 2π, and its derivative ½ Σ (K⁻¹t tᵀK⁻¹ − K⁻¹) ∘ ∂K (Rasmussen & Williams
    2006, equations 2.30 and 5.9).
    """
    near_NN = np.sqrt(squared_NN) * (ROOT_5 / at.matern_length)
    decay_NN = at.matern * np.exp(-near_NN)
    far_NN = squared_NN / at.rbf_length**2
    rbf_NN = at.rbf * np.exp(-0.5 * far_NN)
    bend_NN = near_NN * near_NN / 3.0
    matern_NN = (1.0 + near_NN + bend_NN) * decay_NN
    cov_NN = matern_NN + rbf_NN
    cov_NN[np.diag_indices_from(cov_NN)] += at.noise + doubt_N
    try:
        factor_NN = cholesky(cov_NN, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return math.inf, np.zeros(5)
    weights_N = cho_solve((factor_NN, True), t_N, check_finite=False)
    inverse_NN = cho_solve((factor_NN, True), np.eye(len(t_N)), check_finite=False)
    outer_NN = np.outer(weights_N, weights_N) - inverse_NN
    slopes = (matern_NN, bend_NN * (1.0 + near_NN) * decay_NN, rbf_NN, far_NN * rbf_NN)
    gradient = [float(np.vdot(outer_NN, slope_NN)) for slope_NN in slopes] + [at.noise * float(np.trace(outer_NN))]
    fit = 0.5 * float(t_N @ weights_N) + float(np.log(np.diag(factor_NN)).sum())
    return fit + 0.5 * len(t_N) * math.log(2 * math.pi), -0.5 * np.array(gradient)
