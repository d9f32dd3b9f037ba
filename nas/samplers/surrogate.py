"""Predicts untrained trials from trained ones: a Gaussian process on the logarithm of one value.

    log(y − shift) ~ GP(constant, σ₁² Matérn₅⸝₂ + σ₂² RBF) + noise,   shift = min y − (median y − min y)

The shift stretches the good end, where the front is, and compresses the bad one. Near and far influences have a kernel
each. The caller scales the features. With many observations, at most `MOST_POINTS` are used.

Measured on NAS-Bench-201 (error and latency, latency known, the whole table as the pool), the share of the true
hypervolume after 50 and 100 noisy trainings was: this model, .986/.993 on cifar10 and .970/.992 on cifar100 (6 seeds);
with the Matérn kernel alone and without the shift, .984/.992 and .957/.973; on plain errors, .950/.978 and .949/.971;
extra-trees on log errors, .977/.981 and .949/.956 (4 seeds).

Shapes: N observations, C candidates, D features.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from nas.samplers.hypervolume_improvement import LogNormal, exp
from nas.samplers.point_sets import Floats, Indexes
from nas.samplers.prediction_bound import bound_of, left_out_sds

MOST_POINTS = 128
LEAST_NOISE, LEAST_VARIANCE = 1e-9, 1e-8
"""The least variances of an observation's error and of a prediction, on the scale of the targets."""


@dataclass(frozen=True)
class Observations:
    """Holds observed values. `spread_N` is a known standard deviation of y where y was extrapolated, else 0."""

    features_ND: Floats
    y_N: Floats
    spread_N: Floats

    def __len__(self) -> int:
        return len(self.y_N)

    def joined(self, other: "Observations") -> "Observations":
        return Observations(
            np.concatenate([self.features_ND, other.features_ND]),
            np.concatenate([self.y_N, other.y_N]),
            np.concatenate([self.spread_N, other.spread_N]),
        )


@dataclass(frozen=True)
class Targets:
    """Holds what a Gaussian process learns: (log(y − shift) − centre) / scale, and how that is read back.

    `noise_N` is the variance of each target that comes from an extrapolated value.
    """

    t_N: Floats
    noise_N: Floats
    shift: float
    centre: float
    scale: float

    @classmethod
    def of(cls, seen: Observations, least: float = math.inf) -> Self:
        """Makes the targets of these observations; `least` counts as possible even if nothing so low was seen."""
        shift = shift_of(seen.y_N, least)
        t_N = np.log(seen.y_N - shift)
        centre, scale = float(t_N.mean()), _spread(t_N)
        noise_N = (seen.spread_N / (seen.y_N - shift) / scale) ** 2
        return cls((t_N - centre) / scale, noise_N, shift, centre, scale)

    def values(self, mean_C: Floats) -> Floats:
        """Returns the medians, in the unit of y."""
        return exp(mean_C * self.scale + self.centre) + self.shift

    def prediction(self, mean_C: Floats, sd_C: Floats) -> LogNormal:
        return LogNormal(mean_C * self.scale + self.centre, sd_C * self.scale, self.shift)

    def bound(self, prediction: LogNormal, noise: float, factor_NN: Floats) -> Floats:
        """Returns the bound of nas.samplers.prediction_bound. `noise` is the variance of a single training on the scale
        of the targets, `factor_NN` the Cholesky factor of their covariance.
        """
        left_out_N = left_out_sds(factor_NN)[self.noise_N == 0]
        return bound_of(prediction, math.sqrt(noise) * self.scale, left_out_N * self.scale, len(self.t_N))


class Surrogate:
    """Predicts with a Gaussian process, whose kernel comes from the observations `fitted`, predictions from `seen`.

    The two are apart so that the costly fit need not be repeated at every proposal (see `kernel`).
    """

    def __init__(self, seen: Observations, kernel: Any, least: float = math.inf) -> None:
        """`least` is a value that counts as possible even if nothing so low was seen."""
        self.targets = Targets.of(seen, least)
        self._gp = _process(kernel, self.targets)
        self._gp.fit(seen.features_ND, self.targets.t_N)
        self._noise = float(kernel.k2.noise_level)

    def predict(self, features_CD: Floats) -> LogNormal:
        """Predicts the true value, without the noise of a single training."""
        mean_C, sd_C = self._gp.predict(features_CD, return_std=True)
        return self.targets.prediction(mean_C, np.sqrt(np.maximum(sd_C**2 - self._noise, LEAST_VARIANCE)))

    def bound(self, features_CD: Floats) -> Floats:
        """Returns values that at most one training in 50 beats, (C,)."""
        return self.targets.bound(self.predict(features_CD), self._noise, self._gp.L_)

    def smoothed(self, features_CD: Floats) -> Floats:
        """Returns the median of the prediction: the observations with their noise removed."""
        mean_C: NDArray[np.float64] = self._gp.predict(features_CD)
        return self.targets.values(mean_C)


def thinned(y_N: Floats) -> Indexes:
    """Chooses at most MOST_POINTS of many observations: the best half, and every n-th of all.

    The n is a power of two, so that from one proposal to the next nearly all stay the same.
    """
    if len(y_N) <= MOST_POINTS:
        return np.arange(len(y_N))
    best = np.argsort(y_N, kind="stable")[: MOST_POINTS // 2]
    stride = 2 ** math.ceil(math.log2(len(y_N) / (MOST_POINTS // 2)))
    return np.union1d(best, np.arange(0, len(y_N), stride))


def _spread(t_N: Floats) -> float:
    """Returns the standard deviation; 1 for equal values, whose rounding is no spread."""
    spread = float(t_N.std())
    return spread if spread > 1e-12 else 1.0


def shift_of(y_N: Floats, least: float = math.inf) -> float:
    """Returns a value below the smallest, by as much as the median lies above it."""
    low = min(float(y_N.min()), least)
    gap = float(np.median(y_N)) - low
    return low - (gap if gap > 0 else max(float(np.ptp(y_N)), abs(low) * 1e-3, 1e-9))


def kernel(fitted: Observations) -> Any:
    """Finds a kernel whose parameters make these observations likeliest.

    It always starts from the same parameters, so the outcome depends on the observations alone.
    """
    targets = Targets.of(fitted)
    gp = _process(start_kernel(), targets)
    gp.fit(fitted.features_ND, targets.t_N)
    return _likeliest(gp)


def start_kernel() -> Any:
    """Returns the kernel with the parameters from which every fit starts, and their bounds."""
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel

    return (
        ConstantKernel(1.0, (0.05, 50)) * Matern(2.0, (0.3, 20), nu=2.5)
        + ConstantKernel(1.0, (0.01, 50)) * RBF(5.0, (2, 100))
        + WhiteKernel(1e-2, (1e-6, 1))
    )


def _process(kernel: Any, targets: Targets) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor  # a second to load, which the first proposals spare

    return GaussianProcessRegressor(kernel, alpha=targets.noise_N + LEAST_NOISE, optimizer=None)


def _likeliest(gp: Any) -> Any:
    """Finds the kernel that scikit-learn's own optimiser finds, by the same steps.

    That one warns of a parameter at its bound. Here this is an answer (no noise, or all of it), and a proposer's thread
    cannot ignore a warning for a moment: filters belong to all threads of the program.
    """

    def unlikeliness(theta: Floats) -> tuple[float, Floats]:
        likelihood, gradient = gp.log_marginal_likelihood(theta, eval_gradient=True, clone_kernel=False)
        return -likelihood, -gradient

    found = gp.kernel_
    start, bounds = found.theta, found.bounds
    found.theta = scipy.optimize.minimize(unlikeliness, start, method="L-BFGS-B", jac=True, bounds=bounds).x
    return found
