"""Follows what all drivers of a study store: it reads only what has changed, and passes each changed row on."""

from collections.abc import Callable, Collection, Sequence

from optuna.trial import FrozenTrial, TrialState

from nas.results import Constraint, Objective
from nas.running.budget import OutcomeCounts
from nas.study.job_changes import changes
from nas.study.job_tables import Kind, Phase
from nas.study.later_measurement import with_later
from nas.study.leases import Leases


class StudyChanges:
    """Keeps one driver's knowledge of the study: the budget, the counts of outcomes, and who else runs trials.

    `take` gets each row that others have changed, as the newest measurement of its trial shows it.
    """

    def __init__(
        self,
        leases: Leases,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint],
        take: Callable[[FrozenTrial], None],
    ) -> None:
        self.leases, self.objectives, self.constraints, self.take = leases, objectives, constraints, take
        self.counts, self.budget = OutcomeCounts(), 0
        self.others = set[int]()
        """The trials that other drivers run, by job."""
        self._version, self._counted = 0, set[int]()

    def look(self, running: Collection[int] = (), *, besides_own: bool = True) -> list[int]:
        """Takes in what has changed since the last look, except for the trials that this driver is running.

        Returns which of those it runs no longer, since others have them by now. What this driver itself wrote last is
        left out, unless `besides_own` is False. Raises OutOfReach, and Conflict where a row is damaged or the study is
        gone.
        """
        me = self.leases.driver.id
        found = changes(self.leases.jobs, self._version, besides=me if besides_own else None)
        self._version, self.budget = found.version, found.budget
        lost = [job.number for job in found.jobs if job.driver != me and job.number in running]
        for job in found.jobs:
            runs = job.kind is Kind.TRIAL and job.phase is Phase.RUNNING and job.driver != me
            change = self.others.add if runs else self.others.discard
            change(job.job_id)
        for row in found.rows:
            if row.number not in running or row.number in lost:
                later = found.later.get(row.number, {})
                self.take(with_later(row, later, self.objectives, self.constraints))
                if row.state.is_finished():
                    rungs, reason = bool(row.user_attrs.get("rungs")), row.user_attrs.get("reason", "")
                    self.count(row.number, row.state, rungs, reason)
        return [number for number in lost if number is not None]

    def count(self, number: int, state: TrialState, has_rungs: bool, reason: str) -> None:
        """Counts how a trial ended, once."""
        if number not in self._counted:
            self._counted.add(number)
            self.counts.add(state, has_rungs, reason)
