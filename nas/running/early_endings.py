"""Decides which trials end before their whole training: skipped before it, or stopped at a rung.

Each verdict is made once, from what the study holds at that moment. It is stored with the event that led to it. So a
row that holds a rung has passed it or holds its verdict, and a resumed trial is never judged again by later results.

Controls are trained whatever the rules say: baselines, and one trial in ten by its number. The rules judge them all the
same, and the row stores what they said. So the report can tell how often a rule was wrong.
"""

from dataclasses import asdict, replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nas.measurement import at_best_pace
from nas.reasons import Reason, Verdict
from nas.results import rungs_of
from nas.running.proposer_thread import ProposerThread
from nas.running.running_trial import RunningTrial
from nas.running.stopping_rule import StoppingRule, TrialProgress, is_control
from nas.settings.study_file import StudyFile


class EarlyEndings:
    """Decides which trials of a study end early.

    Controls never end early, and trials that are tried again are never skipped.
    """

    def __init__(self, file: StudyFile, proposals: ProposerThread) -> None:
        self.settings, self.proposals = file.search, proposals
        self.stopping = StoppingRule(file.objective_list(), file.constraint_list())

    def update(self, row: FrozenTrial) -> None:
        """Takes in a row of the database as it now stands."""
        rungs = rungs_of(row.user_attrs)
        if row.state is TrialState.FAIL:
            self.stopping.forget(row.number)
        elif rungs:
            feasible = all(violation <= 0 for violation in row.constraints.values())
            metrics, complete = row.user_attrs.get("metrics", {}), row.state is TrialState.COMPLETE
            known = metrics if complete else at_best_pace(metrics)
            self.stopping.update(row.number, TrialProgress(known, rungs, complete, feasible))

    def before_training(self, trial: RunningTrial) -> dict[str, Any]:
        """Judges a trial after its first measurement: it is skipped when even its optimistic forecast is dominated.

        Returns what its row stores of that.
        """
        if not self.settings.skip or trial.verdict:
            return {}
        bound = self.proposals.optimistic(trial.job.number, at_best_pace(trial.metrics))
        if bound is None:
            return {}
        hopeless = self.stopping.dominated(bound)
        if _is_control(trial):
            trial.control = replace(trial.control, skip=hopeless)
        elif hopeless and not trial.retry:
            trial.verdict = Verdict(0, Reason.SKIPPED)
        return {"bound": bound} | _stored(trial)

    def at_rung(self, trial: RunningTrial) -> dict[str, Any]:
        """Judges a trial that has reached a rung other than the last. Returns what its row stores of that."""
        self.stopping.update(trial.job.number, trial.progress())
        if not self.settings.stopping or trial.verdict or trial.control.stop:
            return {}
        verdict = self.stopping.judged(trial.job.number)
        if _is_control(trial):
            trial.control = replace(trial.control, stop=verdict.step if verdict else 0)
        else:
            trial.verdict = verdict
        return _stored(trial)

    def ended(self, trial: RunningTrial, state: TrialState, feasible: bool) -> None:
        """Takes in a result. A failed trial tells nothing, and a stopped one stays as it was at its last rung."""
        if state is TrialState.FAIL:
            self.stopping.forget(trial.job.number)
        elif state is TrialState.COMPLETE:
            self.stopping.update(trial.job.number, trial.progress(complete=True, feasible=feasible))


def _is_control(trial: RunningTrial) -> bool:
    return trial.baseline or is_control(trial.job.number)


def _stored(trial: RunningTrial) -> dict[str, Any]:
    """Returns what the row stores of what was judged."""
    control = trial.control.stored()
    return ({"verdict": asdict(trial.verdict)} if trial.verdict else {}) | ({"control": control} if control else {})
