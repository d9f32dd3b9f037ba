"""Decides which trial runs next and what becomes of it. It uses neither Ray nor torch, and keeps all state in the
store.

    coordinator = Coordinator(store, file, owner=..., budget=...)
    while (job := coordinator.next_job()) is not None:     # claims a WAITING row, else writes a proposal as a new one
        ... coordinator.report(job, event) ...             # True: go on with this trial

A budget of N means N *trained* trials (COMPLETE, or PRUNED at a rung), however many were killed, failed, infeasible or
skipped: a job is handed out only while trained + running < N. Rows of a dead owner are put back before anything else
happens, and are claimed first.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nas.errors import NasError, OutOfReach
from nas.reasons import Reason, over_limit
from nas.results import Rung
from nas.running.architecture_features import Describe
from nas.running.budget import ASKS_PER_TRIAL, WORKER_CRASHES, End, Failures, OutcomeCounts
from nas.running.early_endings import EarlyEndings
from nas.running.events import Blocked, Completed, Event, Failed, Interrupted, Job, Measured, Notice, Reached, notice
from nas.running.events import Observer as Observer
from nas.running.proposer import Proposer, seed_of
from nas.running.proposer_thread import ProposerThread
from nas.running.running_trial import RunningTrial, unmeasured
from nas.running.trial_queue import TrialQueue
from nas.settings.study_file import StudyFile
from nas.space.parameter_space import Design
from nas.study.checked import remeasured
from nas.study.later_measurement import with_later
from nas.study.store import Store

log = logging.getLogger("nas")


class Coordinator:
    """Keeps one driver's view of one study.

    `prefetch`: see `nas.running.proposer_thread`; `describe`: see `nas.running.architecture_features`.
    """

    def __init__(
        self,
        store: Store,
        file: StudyFile,
        *,
        owner: str,
        budget: int,
        prefetch: bool | Executor = False,
        max_fail_rate: float = 0.5,
        clock: Callable[[], float] = time.time,
        observer: Observer = lambda event: None,
        describe: Describe | None = None,
    ) -> None:
        self.store, self.file, self.budget, self.observer = store, file, budget, observer
        self.objectives, self.constraints = file.objective_list(), file.constraint_list()
        self.counts, self.failures, self.running = OutcomeCounts(), Failures(max_fail_rate), dict[int, RunningTrial]()
        self.end: End | None = None
        self._space = space = file.search_space()
        proposer = Proposer(
            space,
            self.objectives,
            file.search.sampler,
            file.search.seed,
            file.train.learning_rate or (),
            self.constraints,
            describe,
            file.train.steps,
        )
        self._proposals = ProposerThread(proposer, prefetch)
        self._queue = TrialQueue(store, space, self._proposals, owner, clock)
        self._early_endings = EarlyEndings(store, file, self._proposals)
        self._recover()

    def next_job(self) -> Job | None:
        """Claims or creates the next row.

        None while the running trials fill the budget, and for good once `end` is set.
        """
        if self._budget_is_out():
            return None
        slot = self._free_slot()
        row = self._queue.claim(slot)
        if row is None and self.end is None:
            if self._queue.rows >= ASKS_PER_TRIAL * self.budget:
                self.end = End.ASKS
                return None
            row = self._queue.create(slot, self.counts.trained + len(self.running) + 1 < self.budget)
            self.end = None if row else End.EXHAUSTED
        return self._start(*row, slot) if row else None

    def stop(self) -> None:
        """Hands out no more jobs; running trials may finish."""
        self.end = self.end or End.STOPPED

    def enqueue(
        self,
        architecture: Design,
        learning_rate: float | None = None,
        *,
        baseline: bool = False,
        retry_of: int | None = None,
    ) -> int:
        """Writes a WAITING row that runs before anything new. The architecture may be one that the space lacks."""
        marks = ({"baseline": True} if baseline else {}) | ({} if retry_of is None else {"retry_of": retry_of})
        return self._queue.enqueue(architecture, learning_rate, marks)

    def enqueue_again(self, row: FrozenTrial) -> int:
        """Enqueues a failed trial as a new row that runs before anything new."""
        return self.enqueue(self._space.read(row.user_attrs), row.user_attrs.get("learning_rate"), retry_of=row.number)

    def report(self, job: Job, event: Event) -> bool:
        """Stores an event of a trial. Returns True when the trial continues, False when its body is to be dropped.

        A report of an attempt that is not the current one changes nothing. Raises OutOfReach when the machine or the
        database fails, and UsageError when an objective or a limited metric cannot be measured here. The trial then no
        longer counts as running, and no other is handed out.
        """
        trial = self._current(job)
        if trial is None:
            log.warning("trial %d: a late report of attempt %d is ignored", job.number, job.attempt)
            return False
        try:
            return self._handle(trial, event)
        except NasError:
            self._give_up(trial)
            raise

    def placed(self, job: Job, hardware: str) -> None:
        """Stores on which hardware (nas.measure.hardware_id) of a cluster the attempt runs."""
        if self._current(job):
            self.store.note(job.number, "hardware", hardware)

    def crashed(self, job: Job, detail: str) -> None:
        """Handles a worker that died: the trial runs again from its last checkpoint, at most three times.

        Raises as `report`.
        """
        if trial := self._current(job):
            try:
                self._crashed(trial, detail)
            except NasError:
                self._give_up(trial)
                raise

    def close(self) -> None:
        """Puts back the running trials, so that no row stays RUNNING."""
        for trial in list(self.running.values()):
            self._give_up(trial)
        self._proposals.close()

    def _recover(self) -> None:
        """Rebuilds the state from the rows. The caller holds the study's lock, so any other owner of a row is dead."""
        for row in self.store.rows():
            if row.state is TrialState.RUNNING:
                self.store.release(row.number)
        later = remeasured(self.store.attributes())
        for row in self.store.rows():
            self._update(with_later(row, later.get(row.number, {}), self.objectives, self.constraints))
        self._budget_is_out()

    def _update(self, row: FrozenTrial) -> None:
        self._queue.update(row)
        self._early_endings.update(row)
        if row.state.is_finished():
            self.counts.add(row.state, bool(row.user_attrs.get("rungs")), row.user_attrs.get("reason", ""))

    def _budget_is_out(self) -> bool:
        if self.counts.trained >= self.budget:
            self.end = End.BUDGET
        elif self.failures.too_many():
            self.end = End.FAILURES
        over = self.end in (End.BUDGET, End.FAILURES, End.STOPPED)
        return over or self.counts.trained + len(self.running) >= self.budget

    def _current(self, job: Job) -> RunningTrial | None:
        trial = self.running.get(job.number)
        return trial if trial and trial.job.attempt == job.attempt else None

    def _start(self, number: int, attributes: Mapping[str, Any], slot: int) -> Job:
        seed = seed_of(self.file.search.seed, number)
        trial = self.running[number] = RunningTrial.of_row(number, attributes, seed, slot)
        job = trial.job
        kind = "parameters" if job.parameters else "architecture"
        architecture = {"architecture_id": attributes["architecture_id"], kind: attributes[kind]}
        self._notify("started", number, attempt=job.attempt, slot=job.slot, **architecture)
        return job

    def _free_slot(self) -> int:
        used = {trial.job.slot for trial in self.running.values()}
        return next(slot for slot in range(len(used) + 1) if slot not in used)

    def _notify(self, kind: str, number: int, **facts: Any) -> None:
        self.observer({"type": kind, "trial": number, **facts})

    def _handle(self, trial: RunningTrial, event: Event) -> bool:
        if isinstance(event, Notice):
            self.observer(notice(event, trial.job.number))
            return True
        match event:
            case Measured(metrics):
                return self._measured(trial, metrics)
            case Reached(rung):
                return self._rung(trial, rung)
            case Completed(rung, metrics):
                self._rung(trial, rung, last=True)
                self._complete(trial, metrics)
            case Failed(reason, detail):
                self._finish(trial, TrialState.FAIL, None, reason, detail)
            case Interrupted():
                self._release(trial)
            case Blocked(message, where, detail, help):
                raise OutOfReach(message, code="disk", where=where, detail=detail, help=help)
        return False

    def _crashed(self, trial: RunningTrial, detail: str) -> None:
        trial.crashes += 1
        self.store.note(trial.job.number, "crashes", trial.crashes)
        if trial.crashes >= WORKER_CRASHES:
            self._finish(trial, TrialState.FAIL, reason=Reason.STALE, detail=detail)
        else:
            self._release(trial)

    def _measured(self, trial: RunningTrial, metrics: Mapping[str, float]) -> bool:
        number, passed, trial.measured = trial.job.number, trial.measured, True
        trial.metrics |= metrics
        for wanted in self.file.judged():
            if wanted.means.cheap and wanted.metric not in trial.metrics:
                raise unmeasured(wanted.metric, self.file.trial is not None)
        self._proposals.measured(number, trial.metrics)
        # The cheap limits alone: a row whose driver died just before its end holds the trained metrics too.
        cheap = [constraint for constraint in self.constraints if constraint.means.cheap]
        over = {name for name, violation in trial.violations(cheap).items() if violation > 0}
        unsure = {c.metric for c in cheap if c.metric in over and trial.uncertain(c)}
        over -= unsure
        if not over and not passed:
            self._early_endings.before_training(trial)
        self.store.note(number, "metrics", trial.metrics)
        self._notify("measured", number, metrics=dict(metrics), uncertain=sorted(unsure))
        if over:
            first = next(c.metric for c in cheap if c.metric in over)
            self._finish(trial, TrialState.PRUNED, reason=over_limit(first))
        goes_on = not over and not self._ends(trial, step=0)
        self._proposals.prepare()
        return goes_on

    def _rung(self, trial: RunningTrial, rung: Rung, last: bool = False) -> bool:
        if trial.keep(rung):
            if not last:
                self._early_endings.at_rung(trial)
            self.store.note(trial.job.number, "rungs", [asdict(known) for known in trial.rungs])
            self._proposals.reached(trial.job.number, rung)
            self._notify("rung", trial.job.number, **asdict(rung))
        return not self._ends(trial, rung.step)

    def _ends(self, trial: RunningTrial, step: int) -> bool:
        """Tells whether a stored verdict ends the trial at that step, and then finishes it."""
        if not trial.verdict or trial.verdict.step != step:
            return False
        self._finish(trial, TrialState.PRUNED, reason=trial.verdict.reason)
        return True

    def _complete(self, trial: RunningTrial, metrics: Mapping[str, float]) -> None:
        merged = {**trial.metrics, **metrics}
        values = [merged.get(o.metric, math.nan) for o in self.objectives]
        if not all(math.isfinite(value) for value in values):
            names = [o.metric for o, v in zip(self.objectives, values, strict=True) if not math.isfinite(v)]
            self._finish(trial, TrialState.FAIL, reason=Reason.NAN, detail=f"not finite: {', '.join(names)}")
            return
        trial.metrics = merged
        self.store.note(trial.job.number, "metrics", trial.metrics)
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
        for key, value in (("reason", reason), ("detail", detail[-2000:])):
            if value:
                self.store.note(number, key, value)
        self.store.tell(number, state, values, violations)
        self._proposals.finished(number, state, values, violations)
        self.counts.add(state, bool(trial.rungs), reason)
        if reason != Reason.SKIPPED:
            self.failures.add(state)
        self._early_endings.ended(trial, state, all(violation <= 0 for violation in violations.values()))
        del self.running[number]
        outcome: dict[str, Any] = {"state": state.name, "reason": reason, "detail": detail[-2000:]}
        outcome |= {"metrics": trial.metrics, "violations": violations}
        self._notify("finished", number, **outcome, counts=asdict(self.counts))

    def _release(self, trial: RunningTrial) -> None:
        number = trial.job.number
        del self.running[number]
        self.store.release(number)
        self._notify("released", number)
        self._queue.put_back(number)

    def _give_up(self, trial: RunningTrial) -> None:
        """Hands out no more jobs. The next driver puts back a row that the database refuses now."""
        self.stop()
        if trial.job.number in self.running:
            with suppress(OutOfReach):
                self._release(trial)
