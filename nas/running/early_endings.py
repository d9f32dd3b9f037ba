"""Decides which trials end before their whole training: skipped before it, or stopped at a rung.

Each verdict is made once, from what the study holds at that moment. It is stored before the event that led to it. So a
row that holds a rung has passed it or holds its verdict, and a resumed trial is never judged again by later results.
"""

from dataclasses import asdict

from optuna.trial import FrozenTrial, TrialState

from nas.measurement import at_best_pace
from nas.reasons import Reason, Verdict
from nas.results import rungs_of
from nas.running.proposer_thread import ProposerThread
from nas.running.running_trial import RunningTrial
from nas.running.stopping_rule import StoppingRule, TrialProgress
from nas.settings.study_file import StudyFile
from nas.study.store import Store


class EarlyEndings:
    """Decides which trials of a study end early.

    Baselines never end early, and trials that are tried again are never skipped.
    """

    def __init__(self, store: Store, file: StudyFile, proposals: ProposerThread) -> None:
        self.store, self.settings, self.proposals = store, file.search, proposals
        self.stopping = StoppingRule(file.objective_list(), file.constraint_list())

    def update(self, row: FrozenTrial) -> None:
        """Takes in a row of the database as it now stands."""
        rungs = rungs_of(row.user_attrs)
        if rungs and row.state is not TrialState.FAIL:
            feasible = all(violation <= 0 for violation in row.constraints.values())
            metrics, complete = row.user_attrs.get("metrics", {}), row.state is TrialState.COMPLETE
            known = metrics if complete else at_best_pace(metrics)
            self.stopping.update(row.number, TrialProgress(known, rungs, complete, feasible))

    def before_training(self, trial: RunningTrial) -> None:
        """Judges a trial after its first measurement: it is skipped when even its optimistic forecast is dominated."""
        if not self.settings.skip or trial.verdict:
            return
        bound = self.proposals.optimistic(trial.job.number, at_best_pace(trial.metrics))
        if bound is None:
            return
        self.store.note(trial.job.number, "bound", bound)
        if not trial.baseline and not trial.retry and self.stopping.dominated(bound):
            self._decide(trial, Verdict(0, Reason.SKIPPED))

    def at_rung(self, trial: RunningTrial) -> None:
        """Judges a trial that has reached a rung other than the last."""
        self.stopping.update(trial.job.number, trial.progress())
        if self.settings.stopping and not trial.baseline and not trial.verdict:
            self._decide(trial, self.stopping.verdict(trial.job.number))

    def ended(self, trial: RunningTrial, state: TrialState, feasible: bool) -> None:
        """Takes in a result. A failed trial tells nothing, and a stopped one stays as it was at its last rung."""
        if state is TrialState.FAIL:
            self.stopping.forget(trial.job.number)
        elif state is TrialState.COMPLETE:
            self.stopping.update(trial.job.number, trial.progress(complete=True, feasible=feasible))

    def _decide(self, trial: RunningTrial, verdict: Verdict | None) -> None:
        trial.verdict = verdict
        if verdict:
            self.store.note(trial.job.number, "verdict", asdict(verdict))
