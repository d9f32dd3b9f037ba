"""Hands out the jobs of a confirmation to an executor, and stores what becomes of them. All state is in the database.

Several drivers may confirm one study together: each looks at what has ended, plans from that alone
(nas.running.confirmation_plan), and asks the database for the first job of its plan that nobody has.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from uuid import uuid4

from nas.errors import NasError, OutOfReach
from nas.reasons import Reason
from nas.results import rungs_of
from nas.running.budget import WORKER_CRASHES
from nas.running.confirmation_plan import Plan, Step, Task
from nas.running.confirmation_reports import ConfirmationReports, Running
from nas.running.events import ConfirmationJob, Event, Job, Observer, waiting
from nas.settings.study_file import StudyFile
from nas.study.job_answers import Answer, Kept, Lease, Lost, NewJob
from nas.study.job_tables import Kind
from nas.study.leases import Leases
from nas.study.stored_confirmations import Confirmed, key_of, look

WAIT_SECONDS = 1.0
"""A driver without work asks the study so often, while others work or the next measurement is not due."""
MARGIN = 1.2
"""A training is expected to take so much longer than others of its architecture took."""
log = logging.getLogger("nas")


class End(StrEnum):
    """Names the reason why a confirmation has nothing left to do."""

    DONE = "every member has its seeds, and no more of them would tell neighbours apart"
    BUDGET = "the budget leaves no time for further seeds"
    STOPPED = "it was told to stop"


class ConfirmationJobs:
    """Keeps one driver's part of a confirmation; it is a `JobSource` of the executors.

    `left` tells the seconds that are left of a budget, None without one. `expired` tells whether others may have taken
    over this driver's jobs by now.
    """

    def __init__(
        self,
        leases: Leases,
        file: StudyFile,
        plan: Plan,
        *,
        clock: Callable[[], float] = time.time,
        observer: Observer = lambda event: None,
        expired: Callable[[], bool] = lambda: False,
        time_left: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.leases, self.file, self.plan, self.observer = leases, file, plan, observer
        self.clock, self.expired, self.time_left = clock, expired, time_left
        self.running: dict[int, Running] = {}
        self.end: End | None = None
        self.now, self.racing = Confirmed(), True
        self._trials = {trial.number: trial for trial in plan.members}
        self._ask_again, self._waits_since, self._nonce = 0.0, 0.0, uuid4().hex
        self._reports = ConfirmationReports(leases, plan, clock, observer, self._forget, self._release)
        self._look()

    @property
    def left(self) -> int:
        return len(self.plan.step(self.now, self.clock(), racing=self.racing).tasks)

    def next_job(self) -> Job | None:
        if self._is_expired() or time.monotonic() < self._ask_again or self.end:
            return None
        self._look()
        step = self._step()
        if not step.tasks:
            if step.wait is None:
                self.end = End.DONE if self.racing else End.BUDGET
            else:
                self._wait("blocks", step.wait)
            return None
        tasks = {key_of(task.trial, task.again): task for task in step.tasks}
        found = self.leases.claim(self._nonce, [_new(self.plan, key, task) for key, task in tasks.items()])
        if isinstance(found, Lease):
            self._nonce, self._waits_since = uuid4().hex, 0.0
            return self._start(found, tasks[found.key])
        if found is Answer.WAIT:
            self._wait("confirmers")
        return None  # END: others have ended them meanwhile; the next look shows it

    def stop(self) -> None:
        """Hands out no more jobs; running ones may finish."""
        self.end = self.end or End.STOPPED

    def report(self, job: Job, event: Event) -> bool:
        """Stores an event. Raises OutOfReach when the machine or the database fails; no other job is handed out
        then.
        """
        running = self._current(job)
        if running is None:
            return False
        try:
            return self._reports.take(running, event)
        except NasError as error:
            self._give_up(running, error)
            return False

    def placed(self, job: Job, hardware: str) -> None:
        if running := self._current(job):
            self.leases.note(running.lease, {}, hardware)

    def crashed(self, job: Job, detail: str) -> None:
        """Handles a worker that died: its job goes on from its checkpoint, at most twice. Raises as `report`."""
        running = self._current(job)
        if running is None:
            return
        try:
            running.crashes += 1
            self.leases.note(running.lease, {"crashes": running.crashes})
            if running.crashes < WORKER_CRASHES:
                self._release(running)
            else:
                self._reports.finish(running, {}, Reason.STALE, detail)
        except NasError as error:
            self._give_up(running, error)

    def close(self) -> None:
        """Puts back the running jobs of this driver."""
        if self.running:
            self.stop()
        with suppress(OutOfReach):  # others take them over when this driver counts as dead
            for running in list(self.running.values()):
                self._release(running)
        for running in list(self.running.values()):
            self._drop(running)

    def _look(self) -> None:
        jobs = self.leases.jobs
        self.now = jobs.database.read(lambda connection: look(connection, jobs.study_id))

    def _step(self) -> Step:
        """Returns what may be done now. The race ends where the budget has no time for the next seed."""
        step = self.plan.step(self.now, self.clock(), racing=self.racing)
        seconds = self.time_left()
        later = [task for task in step.tasks if task.later]
        if seconds is None or not later or self.seconds(later[0]) <= seconds:
            return step
        self.racing = False
        return self.plan.step(self.now, self.clock(), racing=False)

    def seconds(self, task: Task) -> float:
        """Estimates how long a training takes, by trainings of the same architecture."""
        return MARGIN * training_seconds(self.plan, self.now, task)

    def _start(self, lease: Lease, task: Task) -> Job:
        attributes, trial = lease.attributes, task.trial
        known = [r for r in self.plan.retrainings(self.now, trial.number) if r and r.seed == task.seed]
        tested = task.does == "test" and known
        job = ConfirmationJob(
            number=trial.number,
            attempt=lease.attempt,
            seed=task.seed,
            architecture=trial.architecture,
            parameters=trial.parameters,
            learning_rate=trial.learning_rate,
            metrics=attributes.get("metrics", {}),
            slot=self._free_slot(),
            rungs=known[0].rungs if tested else rungs_of(attributes),
            before=lease.before,
            does=task.does,
            again=task.again,
            job_id=lease.job_id,
            steps=self.plan.steps,
        )
        running = Running(
            job,
            lease,
            self.clock(),
            dict(job.metrics),
            list(rungs_of(attributes)),
            attributes.get("crashes", 0),
        )
        self.running[lease.job_id] = running
        self._reports.tell("begun", running, attempt=lease.attempt)
        return job

    def _wait(self, what: str, seconds: float = WAIT_SECONDS) -> None:
        """Lets a moment pass before the study is asked again, and tells the observer what this driver waits for."""
        self._ask_again = time.monotonic() + min(seconds, WAIT_SECONDS)
        if not self.running:
            self._waits_since = self._waits_since or time.time()
            self.observer(waiting(what, since=self._waits_since))

    def _current(self, job: Job) -> Running | None:
        self._is_expired()
        running = self.running.get(job.job_id) if isinstance(job, ConfirmationJob) else None
        return running if running and running.job.attempt == job.attempt else None

    def _free_slot(self) -> int:
        used = {running.job.slot for running in self.running.values()}
        return next(slot for slot in range(len(used) + 1) if slot not in used)

    def _release(self, running: Running) -> None:
        self._drop(running)
        self.leases.release(running.lease)

    def _drop(self, running: Running) -> None:
        """Runs a job no longer: another driver has it, or will get it."""
        self._forget(running)
        self._reports.tell("released", running)

    def _forget(self, running: Running) -> None:
        self._ask_again = 0.0
        del self.running[running.job.job_id]

    def _is_expired(self) -> bool:
        """Drops all jobs where this driver could not say for long that it lives. True until it says so again."""
        expired = self.expired()
        if expired and self.running:
            log.warning("no heartbeat could be written for long: running jobs start again from their last rung")
            for running in list(self.running.values()):
                self._release(running)
        return expired

    def _give_up(self, running: Running, error: NasError) -> None:
        """Drops a lost job. Raises every other error, and hands out no more jobs from then on."""
        if isinstance(error, Lost | Kept):
            self._drop(running)
        if isinstance(error, Lost):
            return
        self.stop()
        if running.job.job_id in self.running:
            with suppress(OutOfReach):
                self._release(running)
        raise error


def training_seconds(plan: Plan, now: Confirmed, task: Task) -> float:
    """Estimates how long a training of that trial takes: as its last retraining took, else as the trial's own."""
    known = [r for r in plan.retrainings(now, task.trial.number) if r and r.rungs]
    rungs = known[-1].rungs if known else task.trial.rungs
    if not rungs:
        return 0.0
    return rungs[-1].seconds * plan.steps / max(1, rungs[-1].step)


def _new(plan: Plan, key: str, task: Task) -> NewJob:
    attributes = {} if task.does == "block" else {"seed": task.seed, "steps": plan.steps}
    return NewJob(key, attributes, Kind.CONFIRMATION, parent=task.trial.number)
