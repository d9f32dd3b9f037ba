"""Which trials end before all training is spent on them: skipped before it, or stopped at a rung.

Each is decided once, by what the study knows at that moment, and the verdict is stored before what it was decided by.
So a row that holds a rung has passed it or holds the verdict too, and a resumed trial is never judged again by what was
learned later.
"""

from dataclasses import asdict

from optuna.trial import FrozenTrial, TrialState

from nas.results import Rung
from nas.running.budget import SKIPPED
from nas.running.proposer_thread import Asking
from nas.running.running_trial import Flight
from nas.running.stopping_rule import Course, Stopping, Verdict
from nas.settings.study_file import StudyFile
from nas.study.store import Store


class Judge:
    """Of one study. Baselines are never ended early, and trials that are tried again are not skipped."""

    def __init__(self, store: Store, file: StudyFile, asking: Asking) -> None:
        self.store, self.settings, self.asking = store, file.search, asking
        self.stopping = Stopping(file.objective_list(), file.constraint_list())

    def take_in(self, row: FrozenTrial) -> None:
        """A row of the database as it now stands."""
        rungs = [Rung(**rung) for rung in row.user_attrs.get("rungs", [])]
        if rungs and row.state is not TrialState.FAIL:
            feasible = all(violation <= 0 for violation in row.constraints.values())
            metrics, complete = row.user_attrs.get("metrics", {}), row.state is TrialState.COMPLETE
            self.stopping.know(row.number, Course(metrics, rungs, complete, feasible))

    def before_training(self, flight: Flight) -> None:
        """It is measured for the first time: to be skipped when even an optimistic guess at it is dominated."""
        if not self.settings.skip or flight.verdict:
            return
        bound = self.asking.call(self.asking.proposer.optimistic, flight.job.number, dict(flight.metrics))
        if bound is None:
            return
        self.store.note(flight.job.number, "bound", bound)
        if not flight.baseline and not flight.retry and self.stopping.beaten(bound):
            self._decide(flight, Verdict(0, SKIPPED))

    def at_rung(self, flight: Flight) -> None:
        """It has reached one more rung, and not the last."""
        self.stopping.know(flight.job.number, flight.course())
        if self.settings.stopping and not flight.baseline and not flight.verdict:
            self._decide(flight, self.stopping.verdict(flight.job.number))

    def ended(self, flight: Flight, state: TrialState, feasible: bool) -> None:
        """It has its result. What failed tells nothing, and what was stopped stays as it was at its last rung."""
        if state is TrialState.FAIL:
            self.stopping.forget(flight.job.number)
        elif state is TrialState.COMPLETE:
            self.stopping.know(flight.job.number, flight.course(complete=True, feasible=feasible))

    def _decide(self, flight: Flight, verdict: Verdict | None) -> None:
        flight.verdict = verdict
        if verdict:
            self.store.note(flight.job.number, "verdict", asdict(verdict))
