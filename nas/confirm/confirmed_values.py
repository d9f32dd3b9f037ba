"""Collects the values that a confirmation gives of each member and metric: from seeds, from blocks, or computed."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from nas.confirm.estimates import Estimate, by_member
from nas.confirmation import Confirmation, Retraining, hardware_name
from nas.results import METRICS, Metric, Objective, StudyRecord, TrialResult

TEST = "test_"


@dataclass(frozen=True)
class ConfirmedValues:
    """Holds the members of a record that have values of every objective with new seeds, and those that failed."""

    record: StudyRecord
    steps: int
    """The length of the trainings that count; see `length`."""
    hardware: str
    """The machine on which the blocks were measured that count."""
    members: tuple[TrialResult, ...]
    """The members that were trained again without a failure."""
    failed: tuple[TrialResult, ...]
    """The members that failed with a new seed: they have lost their place."""

    @classmethod
    def of(cls, record: StudyRecord) -> "ConfirmedValues":
        trials = [trial for trial in record.trials if trial.number in record.confirmed]
        found = {trial.number: record.confirmed[trial.number] for trial in trials}
        steps, hardware = length(record, found.values()), place(record, found.values())
        failed = tuple(trial for trial in trials if found[trial.number].failures)
        self = cls(record, steps, hardware, (), failed)
        held = [t for t in trials if t not in failed and all(self.values(t, o.metric) for o in record.objectives)]
        return cls(record, steps, hardware, tuple(t for t in held if self.trainings(t)), failed)

    @cached_property
    def metrics(self) -> list[str]:
        """Lists the metrics that some member has: objectives, limits, and what trainings tell of quality."""
        told = [o.metric for o in self.record.objectives] + [c.metric for c in self.record.constraints]
        quality = [name for name in ("val_loss", "val_accuracy") if name not in told]
        tests = sorted({name for t in self.members for training in self.trainings(t) for name in training.test})
        wanted = dict.fromkeys([*told, *quality, *(name for name in tests if ":" not in name)])
        return [name for name in wanted if any(self.groups(name))]

    @cached_property
    def trained(self) -> tuple[Objective, ...]:
        """Returns the objectives that depend on the training, and so on its seed."""
        return tuple(objective for objective in self.record.objectives if not objective.means.cheap)

    def trainings(self, trial: TrialResult) -> tuple[Retraining, ...]:
        """Returns the trainings that ended well, by seed."""
        return tuple(each for each in self.record.confirmed[trial.number].of_steps(self.steps) if not each.failed)

    def values(self, trial: TrialResult, name: str) -> list[float]:
        """Returns the finite values of a metric: over the seeds; of a time, over the blocks; else the computed one.

        Blocks that other load disturbed count only where fewer than two were quiet.
        """
        if self.source(name).cheap:
            if self.source(name).exact:
                found = [trial.metrics.get(name, math.nan)]
            else:
                blocks = [block.metrics for block in self.record.confirmed[trial.number].on_hardware(self.hardware)]
                quiet = [metrics for metrics in blocks if not metrics.get("contended")]
                found = [metrics.get(name, math.nan) for metrics in (quiet if len(quiet) > 1 else blocks)]
                found = found or [trial.metrics.get(name, math.nan)]
        else:
            told = (each.test if name.startswith(TEST) else each.metrics for each in self.trainings(trial))
            found = [metrics.get(name, math.nan) for metrics in told]
        return [value for value in found if math.isfinite(value)]

    def source(self, name: str) -> Metric:
        """Returns what is known of a metric; nothing is taken for cheap that is not known."""
        known = {o.metric: o.means for o in self.record.objectives} | {
            c.metric: c.means for c in self.record.constraints
        }
        return known.get(name) or METRICS.get(name) or Metric(name, "min", "", "")

    def blocks(self, trial: TrialResult, disturbed: bool = False) -> int:
        """Counts the blocks of a trial, or those that other load disturbed."""
        found = self.record.confirmed[trial.number].on_hardware(self.hardware)
        return sum(bool(block.metrics.get("contended")) or not disturbed for block in found)

    def groups(self, name: str) -> list[list[float]]:
        """Returns the values of every member."""
        return [self.values(trial, name) for trial in self.members]

    def ratios(self, name: str) -> bool:
        """Tells whether the metric varies by a share of itself, as measured times do."""
        return (self.source(name).cheap and not self.source(name).exact) or self.source(name).log

    def estimates(self, name: str) -> dict[int, Estimate]:
        """Returns the mean of a metric with its interval, by the members that have it."""
        found, meant = {t.number: values for t in self.members if (values := self.values(t, name))}, self.source(name)
        if meant.cheap and meant.exact:
            return {number: Estimate.exact(values[0]) for number, values in found.items()}
        return dict(zip(found, by_member(list(found.values()), self.ratios(name)), strict=True))


def length(record: StudyRecord, confirmations: Iterable[Confirmation]) -> int:
    """Returns the steps of the trainings that count: most members have two of that length; of several, the longest."""
    counts = [Counter(each.steps for each in found.retrainings if not each.failed) for found in confirmations]
    own = int(record.settings.get("train", {}).get("steps", 0))

    def told(steps: int) -> tuple[int, int, int]:
        seeds = [count[steps] for count in counts]
        return sum(n > 1 for n in seeds), sum(n > 0 for n in seeds), steps

    return max({steps for count in counts for steps in count}, key=told, default=own)


def place(record: StudyRecord, confirmations: Iterable[Confirmation]) -> str:
    """Returns the hardware whose blocks count: the study's own, else that with most blocks."""
    counts = Counter(block.hardware for confirmation in confirmations for block in confirmation.blocks)
    own = hardware_name(record.environment)
    return own if own in counts else max(counts, key=lambda name: (counts[name], name), default=own)


def plain(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    """Returns estimates as plain values for JSON."""
    return {name: estimate.plain() for name, estimate in estimates.items()}
