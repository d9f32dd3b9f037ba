"""Writes how sure the front is: the numbers of its members with ±, ties, probabilities, and sentences."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from nas.confirm.certainty import Certainty, Member
from nas.confirm.confirmed_values import TEST
from nas.confirm.estimates import Estimate
from nas.formatting import ABSENT, fixed, number, percent, plus_minus, span, spread, with_half
from nas.report.words import listed, plural
from nas.results import Constraint, Objective, StudyRecord, TrialResult

ONE_SEED = "one seed"
INTERVAL = "95 % interval of the mean"
MANY = 3
"""From so many others on, "all" stands for the numbers of all."""
PERCENTILES = "10th to 90th percentile"


@dataclass(frozen=True)
class Cell:
    """Holds one number of a trial as tables show it: its text, what stands below it in small, and what that means."""

    text: str
    small: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class Sureness:
    """Writes what is known of the trials of a record: confirmed, or by the search's one seed."""

    record: StudyRecord
    certainty: Certainty | None

    @classmethod
    def of(cls, record: StudyRecord, limits: Iterable[Constraint] = ()) -> Self:
        """Counts a member as on the front only in draws in which it is within the `limits` too."""
        limited = replace(record, constraints=(*record.constraints, *limits))
        return cls(record, Certainty.of(limited))

    def member(self, trial: TrialResult) -> Member | None:
        """Returns what new seeds tell of a trial; None where there are none, or where it failed with one."""
        return None if self.certainty is None else self.certainty.member(trial.number)

    def alone(self, trial: TrialResult) -> bool:
        """Tells whether one seed is all that is known of a trained objective of the trial."""
        trained = any(not objective.means.cheap for objective in self.record.objectives)
        return trained and self.member(trial) is None

    def ranked(self, trials: Sequence[TrialResult]) -> list[TrialResult]:
        """Sorts members of the front, best first by what is best known of the first objective."""
        objective = self.record.objectives[0]
        if self.certainty is None:
            return list(trials)
        return self.certainty.ranked(trials, objective.metric, objective.goal)

    def cell(self, trial: TrialResult, objective: Objective) -> Cell:
        """Returns the mean with ± where the trial is confirmed, else the search's value.

        A value that one training gave is followed by "one seed", and a measured time by its percentiles.
        """
        name, member, meant = objective.metric, self.member(trial), objective.means
        found = member.metrics.get(name) if member else None
        if found is not None and found.half is not None and not (meant.cheap and meant.exact):
            return Cell(number(found.mean), plus_minus(found.half), INTERVAL)
        value = found.mean if found is not None and not meant.cheap else trial.metrics.get(name)
        within = spread(trial.metrics, name)
        if within or meant.cheap or number(value) == ABSENT:
            return Cell(number(value), within, PERCENTILES if within else "")
        return Cell(number(value), ONE_SEED)

    def beside_the_search(self, trial: TrialResult, objective: Objective) -> Cell:
        """Returns the same, with the search's own value beside the confirmed mean: charts show the search's values."""
        cell, own = self.cell(trial, objective), number(trial.metrics.get(objective.metric))
        confirmed = cell.meaning == INTERVAL and own != ABSENT
        return replace(cell, small=f"{cell.small}; the search had {own}") if confirmed else cell

    def best(self, trials: Sequence[TrialResult], objective: Objective) -> tuple[TrialResult, Cell] | None:
        """Returns the trial with the best known value of an objective, and that value; None without a trial."""
        if not trials:
            return None
        sign, certainty = (1 if objective.goal == "min" else -1), self.certainty
        if certainty is None:
            trial = min(trials, key=lambda trial: sign * trial.metrics[objective.metric])
        else:
            trial = certainty.ranked(trials, objective.metric, objective.goal)[0]
        return trial, self.cell(trial, objective)

    def probability(self, trial: TrialResult) -> str:
        """Returns the probability to be on the front, never 0 or 100 %: draws are finite."""
        member = self.member(trial)
        return ABSENT if member is None or member.probability is None else chance(member.probability)

    def ties(self, trial: TrialResult) -> str:
        """Returns the numbers that the trial cannot be told apart from, as 7, 22, or all; empty for none."""
        member = self.member(trial)
        if member is None:
            return ""
        others = len(self.members) - 1
        return "all" if len(member.ties) == others >= MANY else ", ".join(map(str, member.ties))

    def failed(self, trial: TrialResult) -> int:
        """Returns with how many new seeds the trial failed."""
        found = self.certainty.members.get(trial.number) if self.certainty else None
        return found.failed if found else 0

    def told(self, trial: TrialResult) -> str:
        """Tells what new seeds say of a trial: how many, its probability to be on the front, its ties."""
        found = self.certainty.members.get(trial.number) if self.certainty else None
        if found is None:
            return ""
        if found.failed:
            return (
                f"failed in {found.failed} of {plural(found.seeds, 'training')} with new seeds: it has lost its place"
            )
        based = ", ".join([plural(found.seeds, "new seed"), *([plural(found.blocks, "block")] if found.blocks else [])])
        chances = "" if found.probability is None else f"on the front with a probability of {chance(found.probability)}"
        return "; ".join(filter(None, [based, chances, f"≈ {self.ties(trial)}" if found.ties else ""]))

    @property
    def members(self) -> list[Member]:
        """Returns the trials that were trained again without a failure, best first."""
        return [self.certainty.members[number] for number in self.certainty.order] if self.certainty else []

    def test_metrics(self) -> list[str]:
        """Lists the metrics on the test split that some member has."""
        return sorted({name for member in self.members for name in member.metrics if name.startswith(TEST)})

    @property
    def seeds(self) -> str:
        """Tells with how many new seeds the members were trained."""
        counts = [member.seeds for member in self.members]
        return _range(counts, "new seed")

    def basis(self) -> str:
        """Tells what the confirmed numbers rest on."""
        if self.certainty is None or not self.members:
            return ""
        blocks = [member.blocks for member in self.members]
        steps = f" for {self.certainty.steps:,} steps" if self.certainty.steps else ""
        measured = f", and measured in {_range(blocks, 'block')} while nothing trained" if max(blocks) else ""
        loud = sum(member.disturbed for member in self.members)
        beside = f" {loud} of {plural(sum(blocks), 'block')} were measured beside other load." if loud else ""
        return f"{plural(len(self.members), 'trial')} trained again{steps} with {self.seeds} each{measured}.{beside}"

    def groups(self) -> str:
        """Names the groups that cannot be told apart, as 7 ≈ 22; 3 ≈ 9 ≈ 14; empty where there are none."""
        groups = self.certainty.groups if self.certainty else ()
        return "; ".join(" ≈ ".join(map(str, group)) for group in groups if len(group) > 1)

    def tied(self) -> str:
        """Tells which members cannot be told apart, in a sentence."""
        if self.certainty is None or not self.certainty.trained or len(self.certainty.order) < 2:
            return ""
        if not self.certainty.compared:
            return "Nothing is compared yet: first, every trial needs more seeds."
        what = listed(list(self.certainty.trained))
        if self.groups():
            return f"Cannot be told apart in {what} (family-wise error 5 %): {self.groups()}."
        return f"Every two of them differ in {what} (family-wise error 5 %)."

    def failures(self) -> str:
        """Tells which trials failed with a new seed."""
        failed = [member for member in self.certainty.members.values() if member.failed] if self.certainty else []
        told = [f"trial {m.trial} in {m.failed} of {plural(m.seeds, 'training')}" for m in failed]
        return f"Failed with a new seed, and lost its place on the front: {listed(told)}." if told else ""

    def risen(self, front: Sequence[TrialResult]) -> str:
        """Tells which confirmed trials are not on the searched front, and belong there with a probability of a half."""
        numbers = {trial.number for trial in front}
        told = [
            f"{m.trial} ({chance(m.probability)})"
            for m in self.members
            if m.trial not in numbers and m.probability is not None and m.probability >= 0.5
        ]
        return (
            f"Dominated by the search's values, but likely on the front by new seeds: {listed(told)}." if told else ""
        )

    def sentences(self) -> list[str]:
        """Tells what new seeds show of the search: its luck, its ranking, the test split, the hypervolume."""
        if (found := self.certainty) is None:
            return []
        units = {
            objective.metric: f" {objective.unit}" if objective.unit else "" for objective in self.record.objectives
        }
        maximised = {objective.metric for objective in self.record.objectives if objective.goal == "max"}
        biases = [_bias(name, bias, units[name], name in maximised) for name, bias in found.bias.items()]
        rankings = [_ranking(name, rho) for name, rho in found.ranking.items()]
        drops = [_drop(name, drop, units[name]) for name, drop in found.drop.items()]
        return [*biases, *rankings, *drops, *_volume(found)]


def _bias(name: str, found: Estimate, unit: str, maximised: bool) -> str:
    better = "better" if (found.mean > 0) == maximised else "worse"
    sure = "" if _excludes_zero(found) else "; the interval holds 0, so this may be chance"
    told = f"{_unsigned(found)}{unit} {better} than with new seeds{sure}"
    return f"Selection bias: the search's values of {name} on its front are {told}."


def _ranking(name: str, found: Estimate) -> str:
    held = f"{fixed(found.mean, 2)} ({fixed(found.low, 2)} to {fixed(found.high, 2)})".replace("-", "−")
    return f"Spearman's rank correlation of the search's {name} with the confirmed means is {held}."


def _drop(name: str, found: Estimate, unit: str) -> str:
    more = "higher" if found.mean > 0 else "lower"
    return f"On the test split, {name.removeprefix('val_')} is {_unsigned(found)}{unit} {more}."


def _volume(certainty: Certainty) -> list[str]:
    found, searched = certainty.hypervolume, certainty.searched_hypervolume
    if found is None or searched is None or found.low is None or found.high is None:
        return []
    told = f"{number(found.mean)} ({span(found.low, found.high)})"
    return [f"These trials reach a hypervolume of {told}; by the search's own values it is {number(searched)}."]


def chance(probability: float) -> str:
    """Writes a probability from bootstrap draws, whose ends are not certain: < 1 %, 63 %, > 99 %."""
    if probability < 0.01:
        return "< 1 %"
    return "> 99 %" if probability > 0.99 else percent(probability)


def interval(found: Estimate) -> str:
    """Writes a mean with its interval: 1.501 (1.489–1.513)."""
    if found.low is None or found.high is None or found.low == found.high:
        return number(found.mean)
    return f"{number(found.mean)} ({span(found.low, found.high)})"


def _excludes_zero(found: Estimate) -> bool:
    return found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)


def _unsigned(found: Estimate) -> str:
    return with_half(abs(found.mean), found.half)


def _range(counts: Sequence[int], noun: str) -> str:
    low, high = min(counts), max(counts)
    return plural(low, noun) if low == high else f"{low} to {plural(high, noun)}"
