"""Draws what other seeds and other measurements might have shown of a front: a paired bootstrap of residuals.

Shapes: B draws, M members, O objectives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

from nas import pareto
from nas.confirm.differences import NONE, Floats, Layout

DRAWS = 2000
COMPARISONS = 4_000_000
"""So many comparisons of members are held in memory at a time."""


def table(groups: Sequence[Sequence[float]]) -> Floats:
    """Returns groups of different lengths as rows, (M, longest), with NaN at the ends."""
    table_MS = np.full((len(groups), max(map(len, groups))), np.nan)
    for row, group in zip(table_MS, groups, strict=True):
        row[: len(group)] = group
    return table_MS


@dataclass(frozen=True)
class Resampled:
    """Holds members' means in one objective, and draws of these means."""

    means_M: Floats
    draws_BM: Floats

    @classmethod
    def exact(cls, values_M: Sequence[float]) -> "Resampled":
        means_M = np.asarray(values_M, dtype=float)
        return cls(means_M, np.broadcast_to(means_M, (DRAWS, len(means_M))))

    @classmethod
    def of(cls, groups: Sequence[Sequence[float]], ratios: bool, generator: np.random.Generator) -> "Resampled":
        """Resamples the residuals of value = member + seed + noise (Efron and Tibshirani 1993, §9.4).

        The residuals of all members form one pool, scaled to each member's standard deviation: three seeds by
        themselves have too few combinations. `groups` holds each member's values: by seed, the same seeds for all; or,
        with `ratios`, by block. The blocks of two members have nothing in common, and their logarithms are drawn.
        """
        logs = ratios and all(value > 0 for group in groups for value in group)
        values_MS = np.log(table(groups)) if logs else table(groups)
        # Few values may leave nothing to tell noise by, once each seed has a part of its own.
        paired = len(groups) > 1 and not ratios
        layouts = [Layout(values_MS, paired=True), Layout(values_MS, paired=False)][not paired :]
        layout = next((layout for layout in layouts if layout.freedom > NONE), None)
        if layout is None:
            return cls.exact([float(np.mean(group)) for group in groups])
        counts_M = (~np.isnan(values_MS)).sum(axis=1)
        pool, sizes_M = layout.pool, layout.deviations_M
        noise_BM = np.stack([generator.choice(pool, (DRAWS, n)).mean(axis=1) for n in counts_M], axis=1)
        draws_BM = layout.means_M + sizes_M * noise_BM
        return cls(np.exp(layout.means_M), np.exp(draws_BM)) if logs else cls(layout.means_M, draws_BM)


def front_share(draws_BMO: Floats, feasible_BM: NDArray[np.bool_]) -> Floats:
    """Returns the share of the draws in which each member is feasible, and no feasible one dominates it.

    Every objective is to be made small.
    """
    count, members, _ = draws_BMO.shape
    on_front_M, part = np.zeros(members), max(1, COMPARISONS // members**2)
    for start in range(0, count, part):
        rows_BMO, ok_BM = draws_BMO[start : start + part], feasible_BM[start : start + part]
        no_worse = np.ones((len(rows_BMO), members, members), dtype=bool)
        better = np.zeros_like(no_worse)
        for column in np.moveaxis(rows_BMO, 2, 0):
            no_worse &= column[:, :, None] <= column[:, None, :]
            better |= column[:, :, None] < column[:, None, :]
        dominated_BM = (no_worse & better & ok_BM[:, :, None]).any(axis=1)
        on_front_M += (ok_BM & ~dominated_BM).sum(axis=0)
    shares_M: Floats = on_front_M / count
    return shares_M


def volumes(draws_BMO: Floats, feasible_BM: NDArray[np.bool_], bound_O: Floats) -> Floats:
    """Returns the hypervolume of each draw's feasible members, up to the bound; every objective is to be made small."""
    return np.array(
        [
            float(moocore.hypervolume(rows_MO[ok_M], ref=bound_O)) if ok_M.any() else 0.0
            for rows_MO, ok_M in zip(draws_BMO, feasible_BM, strict=True)
        ]
    )


def minimised(columns: Sequence[Floats], goals: Sequence[str]) -> Floats:
    """Stacks objectives of (B, M) as (B, M, O), each to be made small."""
    stacked_BMO = np.stack(columns, axis=2)
    shape = stacked_BMO.shape
    signed_BMO: Floats = pareto.as_minimised(stacked_BMO.reshape(-1, shape[2]), goals).reshape(shape)
    return signed_BMO
