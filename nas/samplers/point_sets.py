"""Computes with sets of points: which are non-dominated, which lie far from the others, where the volume ends.

Shapes: N points, M columns or objectives, all minimised.
"""

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indexes = NDArray[np.intp]

MARGIN, LEAST_MARGIN = 0.1, 1e-3


def nondominated(values_NM: Floats) -> Indexes:
    """Returns the indexes of the non-dominated rows, all minimised; of equal rows the first."""
    if not len(values_NM):
        return np.empty(0, dtype=np.intp)
    return np.flatnonzero(moocore.is_nondominated(values_NM))


def near_front(values_PM: Floats, count: int) -> Indexes:
    """Returns whole layers of non-domination, best first, the last row of each first, until there are at least `count`
    rows.
    """
    left, found = np.arange(len(values_PM)), list[int]()
    while len(left) and len(found) < count:
        layer = nondominated(values_PM[left])
        found += left[layer[::-1]].tolist()
        left = np.delete(left, layer)
    return np.array(found, dtype=np.intp)


def reference_point(best_M: Floats, worst_M: Floats) -> Floats:
    """Returns the point that bounds the hypervolume of rows between these: a tenth of the range beyond the worst.

    Where a column has only one value, the margin is a thousandth of that value.
    """
    margin_M = MARGIN * (worst_M - best_M)
    reference_M: Floats = worst_M + np.where(margin_M > 0, margin_M, np.maximum(np.abs(worst_M) * LEAST_MARGIN, 1e-9))
    return reference_M


def farthest_first(rows_ND: Floats, first: Sequence[int], count: int) -> list[int]:
    """Returns the indexes of `count` rows: these first ones, then always the row that is farthest from all before it.

    The order is that of an epsilon-net (Clarkson 1999) and of farthest-point sampling (Gonzalez 1985).
    """
    chosen = list(first)
    distance_N = nearest_distance(rows_ND, rows_ND[chosen])
    while len(chosen) < count:
        distance_N[chosen] = -1.0
        chosen.append(int(distance_N.argmax()))
        distance_N = np.minimum(distance_N, nearest_distance(rows_ND, rows_ND[chosen[-1:]]))
    return chosen


def nearest_distance(rows_ND: Floats, others_PD: Floats) -> Floats:
    """Returns the distance from each row to the nearest of the others, (N,)."""
    distance_N = np.full(len(rows_ND), np.inf)
    for other_D in others_PD:
        distance_N = np.minimum(distance_N, np.linalg.norm(rows_ND - other_D, axis=1))
    return distance_N
