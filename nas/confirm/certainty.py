"""Says how sure a confirmed front is: intervals, ties, the probability to be on the front, and what the search picked.

docs/how_it_works.md ("How sure a front is") tells what each number means and assumes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from nas import pareto
from nas.confirm.confirmed_values import TEST, ConfirmedValues, plain
from nas.confirm.estimates import Estimate, spearman, student
from nas.confirm.front_chances import FrontChances
from nas.confirm.race import Race, Standing
from nas.results import StudyRecord, TrialResult

FIRST_SEEDS, MOST_SEEDS = 3, 8
"""The looks of a race are counted as if it had gone from so many seeds to so many, where the study does not say."""


@dataclass(frozen=True)
class Member:
    """Holds what new seeds and measurements tell of one trial.

    A trial that failed with a new seed has lost its place: it has no estimates and no probability.
    """

    trial: int
    seeds: int
    failed: int
    """The number of its trainings with new seeds that failed, of `seeds` in all."""
    blocks: int
    disturbed: int
    """The blocks of these that other load disturbed."""
    steps: int
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    probability: float | None = None
    """The share of bootstrap draws in which no other confirmed trial dominates it, and it is within the limits."""
    ties: tuple[int, ...] = ()
    """The confirmed trials that cannot be told apart from it in any trained objective."""

    def plain(self) -> dict[str, Any]:
        """Returns it as front.json and `--json` have it."""
        told = {"seeds": self.seeds, "steps": self.steps, "metrics": plain(self.metrics)}
        return told | {"probability": self.probability, "ties": list(self.ties)}


@dataclass(frozen=True)
class Certainty:
    """Holds how sure the front of a record is; `members` are all trials that were trained again, by number."""

    members: Mapping[int, Member]
    order: tuple[int, ...]
    """The members that did not fail, best first by the mean of the first trained objective."""
    groups: tuple[tuple[int, ...], ...]
    """The longest runs of `order` in which no two can be told apart (family-wise 5 %)."""
    trained: tuple[str, ...]
    """The trained objectives, which are compared."""
    compared: int
    """The number of new seeds after which members were last compared; 0 while some have too few of them."""
    steps: int
    hardware: str
    hypervolume: Estimate | None = None
    searched_hypervolume: float | None = None
    """The hypervolume of the same members by the search's own values."""
    ranking: Mapping[str, Estimate] = field(default_factory=dict)
    """Spearman's correlation of the search's values with the confirmed means, for each trained objective."""
    bias: Mapping[str, Estimate] = field(default_factory=dict)
    """The search's values minus the confirmed means, over the front; empty where the trainings differ in length."""
    drop: Mapping[str, Estimate] = field(default_factory=dict)
    """The metric on the test split minus that on the validation split."""

    @classmethod
    def of(cls, record: StudyRecord) -> Self | None:
        """Returns how sure the front of the record's trials is; None where none of them was trained again."""
        values = ConfirmedValues.of(record)
        if not values.members and not values.failed:
            return None
        standing = _standing(values)
        chances = FrontChances.of(values)
        estimates = {name: values.estimates(name) for name in values.metrics}
        members = {
            trial.number: Member(
                trial.number,
                seeds=len(values.trainings(trial)),
                failed=0,
                blocks=values.blocks(trial),
                disturbed=values.blocks(trial, disturbed=True),
                steps=values.steps,
                metrics={name: found[trial.number] for name, found in estimates.items() if trial.number in found},
                probability=chances.shares.get(trial.number),
                ties=standing.ties(trial.number),
            )
            for trial in values.members
        }
        members |= {trial.number: _failed(values, trial) for trial in values.failed}
        return cls(
            members=members,
            order=standing.order,
            groups=standing.groups(),
            trained=tuple(objective.metric for objective in values.trained),
            compared=standing.seeds,
            steps=values.steps,
            hardware=values.hardware,
            hypervolume=chances.hypervolume,
            searched_hypervolume=chances.searched_hypervolume,
            ranking=_ranking(values),
            bias=_bias(values),
            drop=_drop(values),
        )

    def member(self, number: int) -> Member | None:
        """Returns a trial's standing; None where it was not trained again, or failed."""
        found = self.members.get(number)
        return None if found is None or found.failed else found

    def plain(self) -> dict[str, Any]:
        """Returns it as search.json has it; null where something is not known."""
        members = {n: m.plain() | {"failed": m.failed, "blocks": m.blocks} for n, m in self.members.items()}
        return {
            "steps": self.steps,
            "compared": self.compared,
            "members": [{"trial": number} | told for number, told in members.items()],
            "groups": [list(group) for group in self.groups],
            "hypervolume": self.hypervolume.plain() if self.hypervolume else None,
            "searched_hypervolume": self.searched_hypervolume,
            "rank_correlation": plain(self.ranking),
            "selection_bias": plain(self.bias),
            "test_drop": plain(self.drop),
        }

    def ranked(self, trials: Sequence[TrialResult], objective: str, goal: str) -> list[TrialResult]:
        """Sorts trials best first by what is best known of the objective: the confirmed mean, or the search's value."""
        sign = 1.0 if goal == "min" else -1.0

        def known(trial: TrialResult) -> float:
            member = self.member(trial.number)
            estimate = member.metrics.get(objective) if member else None
            return sign * (estimate.mean if estimate else trial.metrics[objective])

        return sorted(trials, key=lambda trial: (known(trial), trial.number))


def _failed(values: ConfirmedValues, trial: TrialResult) -> Member:
    found = values.record.confirmed[trial.number]
    blocks, disturbed = values.blocks(trial), values.blocks(trial, disturbed=True)
    return Member(trial.number, len(found.retrainings), found.failures, blocks, disturbed, values.steps)


def _standing(values: ConfirmedValues) -> Standing:
    rows = {
        trial.number: [[each.metrics[o.metric] for o in values.trained] for each in values.trainings(trial)]
        for trial in values.members
    }
    first, most = values.record.race or (FIRST_SEEDS, MOST_SEEDS)
    most = max([most, *map(len, rows.values())])
    return Race(tuple(objective.goal for objective in values.trained), most, min(first, most)).standing(rows)


def _ranking(values: ConfirmedValues) -> dict[str, Estimate]:
    found = {}
    for objective in values.trained:
        means = values.estimates(objective.metric)
        pairs = [(trial.metrics[objective.metric], means[trial.number].mean) for trial in values.members]
        if (correlation := spearman(pairs)) is not None:
            found[objective.metric] = correlation
    return found


def _bias(values: ConfirmedValues) -> dict[str, Estimate]:
    """Compares over the searched front alone: its members were picked for their values, and so were lucky ones."""
    own = values.record.settings.get("train", {}).get("steps")
    picked = {trial.number for trial in pareto.searched_front(values.record)}
    chosen = [trial for trial in values.members if trial.number in picked]
    if not chosen or (own is not None and own != values.steps):
        return {}
    found = {}
    for objective in values.trained:
        means, name = values.estimates(objective.metric), objective.metric
        found[name] = student([trial.metrics[name] - means[trial.number].mean for trial in chosen])
    return found


def _drop(values: ConfirmedValues) -> dict[str, Estimate]:
    found = {}
    for objective in values.trained:
        name, apart = objective.metric, list[float]()
        tested = TEST + name.removeprefix("val_")
        for trial in values.members:
            both = [each for each in values.trainings(trial) if tested in each.test and name in each.metrics]
            if both:
                apart.append(sum(each.test[tested] - each.metrics[name] for each in both) / len(both))
        if apart:
            found[name] = student(apart)
    return found
