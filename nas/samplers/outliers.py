"""Draws values that lie far from all others near to them, so that one broken value does not decide a search.

A measurement that went wrong, a diverged training or a penalty may be told as 1e300. Taken as it is, that value sets
the reference point of the hypervolume and the spread of the surrogate's targets: beside it, all else looks alike.

The bulk is the smallest interval that holds most of the distinct values, and grows while the next value is at most
`GAP` times its range away. Values beyond the bulk are outlying. They keep their order, within one more range:

    y = high + range · s,   s = u / (1 + u),   u = ln(1 + (value − high) / range),

and likewise below. Without an outlying value, all values stay as they are, bit for bit.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nas.samplers.point_sets import Floats

LARGEST = 1e300
"""Values beyond this count as this, so that sums and differences of some stay finite."""
GAP = 30.0
FEW, GAP_OF_FEW = 8, 1e6
"""Fewer distinct values than this may lie close together by chance, so that only a far larger gap tells of one."""
SAME = 1e-9
"""Values that differ relatively by less are one distinct value."""


@dataclass(frozen=True)
class OutlierScale:
    """Maps values so that outlying ones come near. `low` and `high` are infinite where nothing lies beyond."""

    low: float
    high: float
    width: float

    def apply(self, values: ArrayLike) -> Floats:
        """Returns the values on this scale; what is not finite stays so."""
        values_N = np.asarray(values, dtype=float)
        with np.errstate(invalid="ignore"):
            above_N, below_N = values_N > self.high, values_N < self.low
        far_N = np.isfinite(values_N) & (above_N | below_N)
        if not far_N.any():
            return values_N
        edge_N = np.where(above_N, self.high, self.low)[far_N]
        # A quarter of each, since the difference of the largest floats is none.
        log_N = np.log(np.abs(values_N[far_N] / 4 - edge_N / 4)) - math.log(self.width / 4)
        u_N = np.logaddexp(0.0, log_N)
        near_N = values_N.copy()
        near_N[far_N] = edge_N + np.where(above_N[far_N], self.width, -self.width) * (u_N / (1 + u_N))
        return near_N

    def doubt(self, values_N: Floats) -> Floats:
        """Returns the standard deviation of each value's error: the width for an outlying one, else 0.

        So an outlying value is believed once others like it confirm it.
        """
        return np.where((values_N < self.low) | (values_N > self.high), self.width, 0.0)

    def outlying(self, value: float) -> bool:
        return not self.low <= value <= self.high


def scale_of(values_N: Floats, *marks: float) -> OutlierScale:
    """Returns the scale on which no finite one of these values is outlying.

    `marks` are values that belong to the bulk where it reaches them, such as the limit of a constraint.
    """
    seen_N = np.clip(values_N[np.isfinite(values_N)], -LARGEST, LARGEST)
    all_N = np.concatenate([seen_N, marks])
    distinct_D = _distinct(all_N)
    if len(seen_N) == 0 or len(distinct_D) < 3:
        return OutlierScale(-math.inf, math.inf, 0.0)
    first, last = _bulk(distinct_D)
    low, high = float(distinct_D[first]), float(distinct_D[last])
    if last + 1 < len(distinct_D):
        high = float(all_N[all_N < distinct_D[last + 1]].max())  # one that counts as equal may be a little larger
    above, below = last + 1 < len(distinct_D) and seen_N.max() > high, seen_N.min() < low
    return OutlierScale(low if below else -math.inf, high if above else math.inf, high - low)


def _distinct(values_N: Floats) -> Floats:
    """Returns the distinct values in ascending order; of those that are nearly equal, the first."""
    sorted_N = np.unique(values_N)
    kept_N = np.diff(sorted_N, prepend=-math.inf) > SAME * np.abs(sorted_N)
    distinct_D: Floats = sorted_N[kept_N]
    return distinct_D


def _bulk(distinct_D: Floats) -> tuple[int, int]:
    """Returns the indexes of the least and the largest of the bulk."""
    count = len(distinct_D)
    majority, gap = count // 2 + 1, GAP if count >= FEW else GAP_OF_FEW
    first = int((distinct_D[majority - 1 :] - distinct_D[: count - majority + 1]).argmin())
    last = first + majority - 1
    while True:
        reach = gap * (distinct_D[last] - distinct_D[first])
        if first > 0 and distinct_D[first] - distinct_D[first - 1] <= reach:
            first -= 1
        elif last < count - 1 and distinct_D[last + 1] - distinct_D[last] <= reach:
            last += 1
        else:
            return first, last
