"""Computes exactly the hypervolume that a candidate is expected to add to a front.

For a candidate whose objectives Y_1 … Y_M (all minimised) are independent given what is known,

    E[HVI] = Σ_k Π_m (ψ_m(u_km) − ψ_m(l_km)),   ψ_m(t) = E[max(0, t − Y_m)],

over boxes (l_k, u_k). Without overlap, the boxes fill the region that is better than the reference point and not
dominated by the front (Yang et al. 2019, arXiv:1904.12672, "Efficient computation of expected hypervolume
improvement"). A known objective has ψ(t) = max(0, t − y), so one formula serves both predicted and known objectives.

Shapes: N points of the front, M objectives, K boxes, C candidates, E edges.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import log_ndtr, ndtr

from nas.samplers.point_sets import Floats, Indexes, farthest_first, nondominated

FRONT_LIMITS = {1: 1, 2: 128, 3: 32, 4: 14, 5: 10, 6: 6, 7: 5, 8: 4}
"""So many points of the front are kept, by number of objectives: they give at most about 700 boxes."""
FEWEST_KEPT = 2
"""So many points are kept with more objectives: they give about M² / 2 boxes."""

AT_ONCE = 2**15
"""So many numbers, of candidates times boxes, stay within a processor's cache."""
USUAL_EXPONENT = 64
"""Powers of two up to this are usual: the product of ten objectives does not overflow."""
LARGEST_LOG = 700.0
"""Approximately the largest logarithm of a float."""


def exp(values: Floats) -> Floats:
    """Computes the exponential, with very large numbers in place of infinite ones."""
    grown: Floats = np.exp(np.minimum(values, LARGEST_LOG))
    return grown


class Belief(Protocol):
    """Holds what is known of one objective of each candidate."""

    def shortfall(self, edges_E: Floats) -> Floats:
        """Returns ψ(t) = E[max(0, t − Y)] for each candidate and edge, (C, E); 0 at −∞."""
        ...


@dataclass(frozen=True)
class Exact:
    """Stands for a known value without uncertainty."""

    value_C: Floats

    def shortfall(self, edges_E: Floats) -> Floats:
        return np.maximum(0.0, edges_E[None, :] - self.value_C[:, None])

    def mean(self) -> Floats:
        return self.value_C


@dataclass(frozen=True)
class LogNormal:
    """Y = shift + exp(N(mean, sd²)), as a Gaussian process predicts for log(Y − shift)."""

    mean_C: Floats
    sd_C: Floats
    shift: float

    def shortfall(self, edges_E: Floats) -> Floats:
        """Returns k Φ((ln k − μ)/σ) − exp(μ + σ²/2) Φ((ln k − μ)/σ − σ) with k = t − shift: the price of a put
        option.
        """
        above_E = np.maximum(edges_E - self.shift, 0.0)
        with np.errstate(divide="ignore"):
            standard_CE = (np.log(above_E)[None, :] - self.mean_C[:, None]) / self.sd_C[:, None]
        whole_C = exp(self.mean_C + self.sd_C**2 / 2)
        put_CE: Floats = above_E * ndtr(standard_CE) - whole_C[:, None] * ndtr(standard_CE - self.sd_C[:, None])
        return np.maximum(put_CE, 0.0)

    def mean(self) -> Floats:
        return self.shift + exp(self.mean_C + self.sd_C**2 / 2)

    def below(self, sds: float) -> Floats:
        """Returns the value so many standard deviations below the middle."""
        return self.shift + exp(self.mean_C - sds * self.sd_C)

    def log_below(self, limit: float) -> Floats:
        """Returns the logarithm of the probability that the value is at most `limit`, which lies above the shift."""
        log_C: Floats = log_ndtr((math.log(limit - self.shift) - self.mean_C) / self.sd_C)
        return log_C


@dataclass(frozen=True)
class Boxes:
    """Boxes as indexes into the edges of each objective, so that ψ is computed once for each edge."""

    edges: tuple[Floats, ...]
    lower_KM: Indexes
    upper_KM: Indexes


def expected_improvement(beliefs: Sequence[Belief], front_NM: Floats, reference_M: Floats) -> Floats:
    """Returns E[HVI] of each candidate over the front, (C,). The front may hold dominated points and may be empty.

    Objectives in very large or very small units count in others, so that no product overflows or vanishes.
    """
    if not beliefs:
        raise ValueError("at least one objective is needed")
    boxes = split(thin(front_NM, reference_M), reference_M)
    psi_MCE = [_in_usual_units(belief.shortfall(edges_E)) for belief, edges_E in zip(beliefs, boxes.edges, strict=True)]
    count = len(psi_MCE[0])
    improvement_C = np.empty(count)
    step = max(1, AT_ONCE // max(1, len(boxes.lower_KM)))
    for first in range(0, count, step):
        part = slice(first, first + step)
        improvement_C[part] = _volumes([psi_CE[part] for psi_CE in psi_MCE], boxes).sum(axis=1)
    return improvement_C


def _volumes(psi_MCE: Sequence[Floats], boxes: Boxes) -> Floats:
    """Returns what each box is expected to add, (C, K)."""
    product_CK = np.ones(())
    for psi_CE, lower_K, upper_K in zip(psi_MCE, boxes.lower_KM.T, boxes.upper_KM.T, strict=True):
        product_CK = product_CK * (psi_CE[:, upper_K] - psi_CE[:, lower_K])
    return product_CK


def _in_usual_units(psi_CE: Floats) -> Floats:
    """Divides by a power of two, which rounds nothing, where the largest is beyond `USUAL_EXPONENT`."""
    exponent = math.frexp(float(psi_CE.max(initial=0.0)))[1]
    return psi_CE if abs(exponent) <= USUAL_EXPONENT else np.ldexp(psi_CE, -exponent)


def split(front_NM: Floats, reference_M: Floats) -> Boxes:
    """Splits the region below the reference that is not dominated into boxes, by slabs along the last objective.

    Between two neighbouring values of the last objective, only the points below the slab matter, with one objective
    less.
    """
    edges = tuple(
        np.concatenate([[-np.inf], np.unique(front_NM[:, m]), [reference_M[m]]]) for m in range(len(reference_M))
    )
    ranks_NM = np.stack([np.searchsorted(e, front_NM[:, m]) for m, e in enumerate(edges)], axis=1).reshape(
        len(front_NM), len(edges)
    )
    boxes = _slabs([tuple(row) for row in ranks_NM.tolist()], [len(e) - 1 for e in edges])
    bounds = np.array(boxes, dtype=np.intp).reshape(-1, 2, len(edges))
    return Boxes(edges, bounds[:, 0], bounds[:, 1])


def thin(front_NM: Floats, reference_M: Floats) -> Floats:
    """Returns the non-dominated points better than the reference; of many, the extremes and those furthest from the
    others.
    """
    inside = front_NM[(front_NM < reference_M).all(axis=1)]
    inside = inside[nondominated(inside)]
    limit = FRONT_LIMITS.get(len(reference_M), FEWEST_KEPT)
    if len(inside) <= limit:
        return inside
    span = np.ptp(inside, axis=0)
    scaled = inside / np.where(span > 0, span, 1.0)
    extremes = list(dict.fromkeys(int(i) for i in scaled.argmin(axis=0)))
    return inside[sorted(farthest_first(scaled, extremes[:limit], limit))]


Ranks = tuple[int, ...]
RankBox = tuple[Ranks, Ranks]


def _slabs(points: list[Ranks], ends: list[int]) -> list[RankBox]:
    """Yields the boxes in edge ranks; `ends` are the ranks of the reference."""
    if len(ends) == 1:
        top = min((point[0] for point in points), default=ends[0])
        return [((0,), (top,))]
    found: list[RankBox] = []
    heights = sorted({point[-1] for point in points})
    for bottom, top in zip([0, *heights], [*heights, ends[-1]], strict=True):
        below = _front_of([point[:-1] for point in points if point[-1] <= bottom] if bottom else [])
        found += [((*low, bottom), (*high, top)) for low, high in _slabs(below, ends[:-1])]
    return found


def _front_of(points: list[Ranks]) -> list[Ranks]:
    """Returns the distinct non-dominated points in order."""
    kept: list[Ranks] = []
    for point in sorted(set(points)):
        # Of two objectives, the first one rises, so that the last one kept is the lowest in the second.
        rivals = kept[-1:] if len(point) == 2 else kept
        if not any(all(a <= b for a, b in zip(other, point, strict=True)) for other in rivals):
            kept.append(point)
    return kept
