"""Stores what a running trial reports, and decides whether it goes on: limits, early endings, results.

Each report is stored in one transaction, with whatever was decided from it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from optuna.trial import TrialState

from nas.reasons import Reason, over_limit
from nas.results import Rung
from nas.running.budget import WORKER_CRASHES
from nas.running.early_endings import EarlyEndings
from nas.running.proposer_thread import ProposerThread
from nas.running.running_trial import RunningTrial, unmeasured
from nas.settings.study_file import StudyFile
from nas.study.leases import Leases


class Notify(Protocol):
    """Tells the observer of an event of a trial."""

    def __call__(self, kind: str, number: int, **facts: Any) -> None: ...


Ended = Callable[[RunningTrial, TrialState, str, dict[str, Any]], None]
"""It is called with the trial, its state, the reason and what observers are told, once a result is stored."""


class TrialReports:
    """Takes the reports of one driver's trials. Every method raises Lost where the trial is another driver's by now."""

    def __init__(
        self,
        leases: Leases,
        file: StudyFile,
        proposals: ProposerThread,
        early_endings: EarlyEndings,
        notify: Notify,
        ended: Ended,
    ) -> None:
        self.leases, self.file, self._notify, self._tell_end = leases, file, notify, ended
        self.objectives, self.constraints = file.objective_list(), file.constraint_list()
        self._proposals, self._early_endings = proposals, early_endings

    def measured(
        self, trial: RunningTrial, metrics: Mapping[str, float], measurement: Mapping[str, Any], more: bool
    ) -> bool:
        """Stores the metrics that are known before training, and how they were measured where that is new. True: the
        trial goes on. Raises UsageError for one that cannot be measured.

        Where `more` measurements follow, limits on what is known end the trial already, and nothing else is judged.
        """
        number, passed, trial.measured = trial.job.number, trial.measured, trial.measured or not more
        trial.metrics |= metrics
        trial.measurement |= measurement
        for wanted in self.file.judged() if not more else ():
            if wanted.means.cheap and wanted.metric not in trial.metrics:
                raise unmeasured(wanted.metric, self.file.trial is not None)
        self._proposals.measured(number, trial.metrics)
        # The cheap limits alone: a row whose driver died just before its end holds the trained metrics too.
        cheap = [constraint for constraint in self.constraints if constraint.means.cheap]
        over = {name for name, violation in trial.violations(cheap).items() if violation > 0}
        unsure = {c.metric for c in cheap if c.metric in over and trial.uncertain(c)}
        over -= unsure
        judged = {} if over or passed or more else self._early_endings.before_training(trial)
        told = {"measurement": trial.measurement} if measurement else {}
        self.leases.note(trial.lease, {"metrics": trial.metrics, **told, **judged})
        self._notify("measured", number, metrics=dict(metrics), uncertain=sorted(unsure))
        if over:
            first = next(c.metric for c in cheap if c.metric in over)
            self._finish(trial, TrialState.PRUNED, reason=over_limit(first))
        goes_on = not over and not self._ends(trial, step=0)
        self._proposals.prepare()
        return goes_on

    def rung(self, trial: RunningTrial, rung: Rung, checkpoint: str) -> bool:
        """Stores a rung other than the last, with the name of its checkpoint. True: the trial goes on."""
        if trial.keep(rung):
            judged = self._early_endings.at_rung(trial)
            self.leases.rung(trial.lease, rung.step, checkpoint or None, {"rungs": trial.stored_rungs(), **judged})
            self._reached(trial, rung)
        return not self._ends(trial, rung.step)

    def failed(self, trial: RunningTrial, reason: Reason, detail: str) -> None:
        """Ends a trial that cannot go on."""
        self._finish(trial, TrialState.FAIL, reason=reason, detail=detail)

    def crashed(self, trial: RunningTrial, detail: str) -> bool:
        """Counts a worker that died with the trial. True: it may run again; otherwise it has failed."""
        trial.crashes += 1
        self.leases.note(trial.lease, {"crashes": trial.crashes})
        if trial.crashes < WORKER_CRASHES:
            return True
        self._finish(trial, TrialState.FAIL, reason=Reason.STALE, detail=detail)
        return False

    def _reached(self, trial: RunningTrial, rung: Rung) -> None:
        self._proposals.reached(trial.job.number, rung)
        self._notify("rung", trial.job.number, **asdict(rung))

    def _ends(self, trial: RunningTrial, step: int) -> bool:
        """Tells whether a stored verdict ends the trial at that step, and then finishes it."""
        if not trial.verdict or trial.verdict.step != step:
            return False
        self._finish(trial, TrialState.PRUNED, reason=trial.verdict.reason)
        return True

    def complete(self, trial: RunningTrial, rung: Rung, metrics: Mapping[str, float]) -> None:
        """Ends a trial with its last rung, which is stored together with the result."""
        if trial.keep(rung):
            self._reached(trial, rung)
        merged = {**trial.metrics, **metrics}
        values = [merged.get(o.metric, math.nan) for o in self.objectives]
        if not all(math.isfinite(value) for value in values):
            names = [o.metric for o, v in zip(self.objectives, values, strict=True) if not math.isfinite(v)]
            self._finish(trial, TrialState.FAIL, reason=Reason.NAN, detail=f"not finite: {', '.join(names)}")
            return
        trial.metrics = merged
        self._finish(trial, TrialState.COMPLETE, values=values)

    def _finish(
        self,
        trial: RunningTrial,
        state: TrialState,
        values: list[float] | None = None,
        reason: str = "",
        detail: str = "",
    ) -> None:
        number, violations = trial.job.number, trial.violations(self.constraints)
        if trial.verdict:
            violations |= trial.verdict.violations
        why = {"reason": reason, "detail": detail[-2000:]}
        self.leases.tell(
            trial.lease,
            state,
            values,
            trained=state is TrialState.COMPLETE or (state is TrialState.PRUNED and bool(trial.rungs)),
            attributes=trial.attributes() | {key: value for key, value in why.items() if value},
            violations=violations,
        )
        self._proposals.finished(number, state, values, violations)
        self._early_endings.ended(trial, state, all(violation <= 0 for violation in violations.values()))
        outcome: dict[str, Any] = {"state": state.name, **why}
        self._tell_end(trial, state, reason, outcome | {"metrics": trial.metrics, "violations": violations})
