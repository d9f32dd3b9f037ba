"""Decides which trial runs next and what becomes of it. It uses neither Ray nor torch, and keeps all state in the
database.

    coordinator = Coordinator(leases, file)
    while (job := coordinator.next_job()) is not None:     # one that waits, or of a dead driver, or a new one
        ... coordinator.report(job, event) ...             # True: go on with this trial

A budget of N means N *trained* trials (COMPLETE, or PRUNED at a rung), however many were killed, failed, infeasible or
skipped: a job is handed out only while trained + running < N. Several drivers may share the study: before each job it
takes in what the others have stored, so their results teach its sampler and its stopping rule too.
"""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nas.errors import NasError, OutOfReach
from nas.reasons import Reason
from nas.running.architecture_features import Describe
from nas.running.budget import End, Failures, OutcomeCounts
from nas.running.early_endings import EarlyEndings
from nas.running.events import (
    Blocked,
    Completed,
    Event,
    Failed,
    Interrupted,
    Job,
    Measured,
    Notice,
    Observer,
    Reached,
    notice,
    waiting,
)
from nas.running.proposer import Proposer, seed_of
from nas.running.proposer_thread import ProposerThread
from nas.running.running_trial import RunningTrial
from nas.running.study_changes import StudyChanges
from nas.running.trial_queue import TrialQueue
from nas.running.trial_reports import TrialReports
from nas.settings.study_file import StudyFile
from nas.space.parameter_space import Design
from nas.study.job_answers import Kept, Lease, Lost, Origin
from nas.study.leases import Leases

WAIT_SECONDS = 1.0
"""A driver without work asks the study so often, while other drivers run what is left."""

log = logging.getLogger("nas")


class Coordinator:
    """Keeps one driver's view of one study.

    `prefetch`: see `nas.running.proposer_thread`; `describe`: see `nas.running.architecture_features`. `expired` tells
    whether others may have taken over this driver's trials by now: it then drops them.
    """

    def __init__(
        self,
        leases: Leases,
        file: StudyFile,
        *,
        prefetch: bool | Executor = False,
        max_fail_rate: float = 0.5,
        clock: Callable[[], float] = time.time,
        observer: Observer = lambda event: None,
        describe: Describe | None = None,
        expired: Callable[[], bool] = lambda: False,
    ) -> None:
        self.leases, self.file, self.observer, self.expired = leases, file, observer, expired
        self.objectives, self.constraints = file.objective_list(), file.constraint_list()
        self.failures, self.running = Failures(max_fail_rate), dict[int, RunningTrial]()
        self.end: End | None = None
        self._ask_again, self._waits_since = 0.0, 0.0
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
            leases.driver.ordinal,
        )
        self._proposals = ProposerThread(proposer, prefetch)
        self._early_endings = EarlyEndings(file, self._proposals)
        self._reports = TrialReports(leases, file, self._proposals, self._early_endings, self._notify, self._ended)
        self._study = StudyChanges(leases, self.objectives, self.constraints, self._update)
        self._queue = TrialQueue(
            leases, space, self._proposals, self._study, self._look, clock, {"decided_by": file.search.rules()}
        )
        self._study.look(besides_own=False)
        self._budget_is_out()

    @property
    def budget(self) -> int:
        """The newest budget that is known; any driver may raise it."""
        return self._study.budget

    @property
    def left(self) -> int:
        """Returns how many trials are left of the budget."""
        return self.budget - self.counts.trained

    @property
    def counts(self) -> OutcomeCounts:
        """The outcomes of all drivers' trials, as far as they are known."""
        return self._study.counts

    @property
    def others_run(self) -> bool:
        """True while other drivers run trials, as far as is known."""
        return bool(self._study.others)

    def next_job(self) -> Job | None:
        """Returns the next trial of this driver.

        None once `end` is set, for good. Without an end, trials that run, here or at other drivers, may still fill the
        budget: ask again later.
        """
        if self._is_expired() or time.monotonic() < self._ask_again:
            return None
        self._look()
        if not self._budget_is_out():
            slot = self._free_slot()
            found = self._queue.next(slot, len(self.running), may_propose=self.end is None)
            if isinstance(found, Lease):
                return self._start(found, slot)
            self.end = self.end or found
        if self.end is None:
            self._wait()
        return None

    def stop(self) -> None:
        """Hands out no more jobs; running trials may finish."""
        self.end = self.end or End.STOPPED

    def enqueue(self, architecture: Design, learning_rate: float | None = None, *, baseline: bool = False) -> int:
        """Writes a WAITING row that runs before anything new. The architecture may be one that the space lacks."""
        number = self._queue.enqueue(architecture, learning_rate, {"baseline": True} if baseline else {})
        self._look()
        return number

    def enqueue_again(self, number: int, attributes: Mapping[str, Any]) -> int:
        """Enqueues a failed trial with these attributes as a new row that runs before anything new."""
        marks = {"retry_of": number, "retry": attributes.get("retry", 0) + 1}
        rate = attributes.get("learning_rate")
        found = self._queue.enqueue(self._space.read(attributes), rate, marks, again=str(number))
        self._look()
        return found

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
        except NasError as error:
            self._give_up(trial, error)
            return False

    def placed(self, job: Job, hardware: str) -> None:
        """Stores on which hardware (nas.measure.hardware_id) of a cluster the attempt runs."""
        if trial := self._current(job):
            self.leases.note(trial.lease, {"hardware": hardware}, hardware)

    def crashed(self, job: Job, detail: str) -> None:
        """Handles a worker that died: its trial goes on from its checkpoint, at most twice. Raises as `report`."""
        if trial := self._current(job):
            try:
                if self._reports.crashed(trial, detail):
                    self._release(trial)
            except NasError as error:
                self._give_up(trial, error)

    def close(self) -> None:
        """Puts back the running trials of this driver, so that none of its rows stays RUNNING."""
        if self.running:
            self.stop()
        with suppress(OutOfReach):  # what the database refuses now, others take over when this driver counts as dead
            for trial in list(self.running.values()):
                self._release(trial)
        for trial in list(self.running.values()):
            self._drop(trial)
        self._proposals.close()

    def _look(self, *, besides_own: bool = True) -> None:
        """Takes in what others have stored, and drops trials that they have taken over."""
        for number in self._study.look(self.running, besides_own=besides_own):
            log.warning("trial %d was taken over by another driver, as this one gave no sign of life for long", number)
            self._drop(self.running[number])

    def _update(self, row: FrozenTrial) -> None:
        self._queue.update(row)
        self._early_endings.update(row)

    def _wait(self) -> None:
        """Lets a moment pass before the study is asked again, and tells the observer who waits for other drivers."""
        self._ask_again = time.monotonic() + WAIT_SECONDS
        if not self.running:
            self._waits_since = self._waits_since or time.time()
            self.observer(waiting("drivers", since=self._waits_since))

    def _budget_is_out(self) -> bool:
        if self.counts.trained >= self.budget:
            self.end = End.BUDGET
        elif self.failures.too_many():
            self.end = End.FAILURES
        over = self.end in (End.BUDGET, End.FAILURES, End.STOPPED)
        return over or self.counts.trained + len(self.running) >= self.budget

    def _current(self, job: Job) -> RunningTrial | None:
        self._is_expired()
        trial = self.running.get(job.number)
        return trial if trial and trial.job.attempt == job.attempt else None

    def _start(self, lease: Lease, slot: int) -> Job:
        if lease.origin is not Origin.NEW:  # others may have changed the trial since the last look
            self._look(besides_own=False)
        attributes, number, self._waits_since = lease.attributes, lease.number or 0, 0.0
        if lease.origin is Origin.TAKEN_OVER:
            log.warning("%s: its driver is gone; it goes on here", lease)
        trial = self.running[number] = RunningTrial.of_lease(lease, seed_of(self.file.search.seed, number), slot)
        job = trial.job
        kind = "parameters" if job.parameters else "architecture"
        told = {"architecture_id": attributes["architecture_id"], kind: attributes[kind]}
        self._notify("started", number, attempt=job.attempt, slot=job.slot, **told)
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
            case Measured(metrics, measurement, more):
                return self._reports.measured(trial, metrics, measurement, more)
            case Reached(rung, checkpoint):
                return self._reports.rung(trial, rung, checkpoint)
            case Completed(rung, metrics):
                self._reports.complete(trial, rung, metrics)
            case Failed(reason, detail):
                self._reports.failed(trial, reason, detail)
            case Interrupted():
                self._release(trial)
            case Blocked(message, where, detail, help):
                raise OutOfReach(message, code="disk", where=where, detail=detail, help=help)
        return False

    def _ended(self, trial: RunningTrial, state: TrialState, reason: str, outcome: dict[str, Any]) -> None:
        """Takes in that the result of a trial is stored."""
        number = trial.job.number
        self._study.count(number, state, bool(trial.rungs), reason)
        if reason != Reason.SKIPPED:
            self.failures.add(state)
        self._forget(trial)
        self._notify("finished", number, **outcome, counts=asdict(self.counts))
        if state is TrialState.FAIL and self.file.search.retries.again(reason, trial.lease.attributes.get("retry", 0)):
            self.enqueue_again(number, trial.lease.attributes)

    def _release(self, trial: RunningTrial) -> None:
        self._drop(trial)
        self.leases.release(trial.lease)

    def _drop(self, trial: RunningTrial) -> None:
        """Runs a trial no longer: another driver has it, or will get it."""
        self._forget(trial)
        self._notify("released", trial.job.number)

    def _forget(self, trial: RunningTrial) -> None:
        self._ask_again = 0.0
        del self.running[trial.job.number]

    def _is_expired(self) -> bool:
        """Drops all trials where this driver could not say for long that it lives. True until it says so again."""
        expired = self.expired()
        if expired and self.running:
            log.warning("no heartbeat could be written for long: running trials start again from their last rung")
            for trial in list(self.running.values()):
                self._release(trial)
        return expired

    def _give_up(self, trial: RunningTrial, error: NasError) -> None:
        """Drops a lost trial. Raises every other error, and hands out no more jobs from then on."""
        if isinstance(error, Lost | Kept):
            self._drop(trial)
        if isinstance(error, Lost):
            return
        self.stop()
        if trial.job.number in self.running:
            with suppress(OutOfReach):
                self._release(trial)
        raise error
