"""Computes how probable it is that each confirmed member is on the front, and the front's hypervolume."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas import pareto
from nas.confirm.confirmed_values import ConfirmedValues
from nas.confirm.differences import Floats
from nas.confirm.estimates import Estimate, between
from nas.confirm.resampling import DRAWS, Resampled, front_share, minimised, volumes
from nas.results import Constraint, StudyRecord


@dataclass(frozen=True)
class FrontChances:
    """Holds the probability of each member to be on the front, by number, and the hypervolume of the members."""

    shares: Mapping[int, float] = field(default_factory=dict)
    hypervolume: Estimate | None = None
    searched_hypervolume: float | None = None
    """The hypervolume of the same members by the search's own values, up to the same reference point."""

    @classmethod
    def of(cls, values: ConfirmedValues) -> Self:
        """Draws all objectives and limits of all members together; nothing is said where nobody has two seeds."""
        record, members, generator = values.record, values.members, np.random.default_rng(0)
        if not any(len(values.trainings(trial)) > 1 for trial in members):
            return cls()
        judged = dict.fromkeys([o.metric for o in record.objectives] + [c.metric for c in record.constraints])
        drawn = {name: _drawn(values, name, generator) for name in judged if all(values.groups(name))}
        goals = [objective.goal for objective in record.objectives]
        means_MO = np.stack([drawn[o.metric].means_M for o in record.objectives], axis=1)
        draws_BMO = minimised([drawn[o.metric].draws_BM for o in record.objectives], goals)
        means_ok_M = _within(record.constraints, {name: found.means_M for name, found in drawn.items()}, len(members))
        draws_ok_BM = np.broadcast_to(
            _within(record.constraints, {name: found.draws_BM for name, found in drawn.items()}, len(members)),
            (DRAWS, len(members)),
        )
        reference = _reference(record, means_MO)
        confirmed = pareto.hypervolume(means_MO[means_ok_M], goals, reference)
        bound_O = pareto.as_minimised([reference], goals)[0]
        searched = [trial.values(record.objectives) or [] for trial in members]
        shares_M = front_share(draws_BMO, draws_ok_BM)
        return cls(
            {trial.number: float(share) for trial, share in zip(members, shares_M, strict=True)},
            between(confirmed, volumes(draws_BMO, draws_ok_BM, bound_O)),
            pareto.hypervolume(searched, goals, reference),
        )


def _drawn(values: ConfirmedValues, name: str, generator: np.random.Generator) -> Resampled:
    meant, groups = values.source(name), values.groups(name)
    if meant.cheap and meant.exact:
        return Resampled.exact([group[0] for group in groups])
    return Resampled.of(groups, values.ratios(name), generator)


def _within(limits: Sequence[Constraint], values: Mapping[str, Floats], members: int) -> NDArray[np.bool_]:
    """Tells which members are within the limits, in each draw or by their means."""
    ok = np.ones(members, dtype=bool)
    for limit in limits:
        if limit.metric in values:
            low, high = -np.inf if limit.min is None else limit.min, np.inf if limit.max is None else limit.max
            ok = ok & (values[limit.metric] >= low) & (values[limit.metric] <= high)
    return ok


def _reference(record: StudyRecord, means_MO: Floats) -> list[float]:
    """Returns a point beyond what the search found on its front, and beyond the confirmed means."""
    goals = [objective.goal for objective in record.objectives]
    known = [trial.values(record.objectives) or [] for trial in pareto.searched_front(record)]
    return pareto.reference_point([*known, *means_MO.tolist()], goals)
