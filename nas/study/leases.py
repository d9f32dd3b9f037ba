"""Hands out the jobs of a study under leases, and lets only the holder of a lease write: for several drivers at once.

    leases = Leases(jobs, drivers.register())
    answer = leases.acquire(nonce, proposal)          # a Lease, or WAIT, END, PROPOSE, DUPLICATE
    leases.rung(answer, step, checkpoint, attributes)
    leases.tell(answer, TrialState.COMPLETE, values, trained=True)

Each call is one transaction, which first proves that this driver still has that attempt of the job. A driver that was
frozen or cut off for longer than the grace period loses its jobs to others; what it writes later is refused as Lost.
Each call may be repeated as often as wanted: what was done before is recognised and stays, so an answer that got lost
costs nothing.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar, cast
from uuid import uuid4

import sqlalchemy as sql
from optuna.trial import TrialState

from nas.errors import OutOfReach
from nas.measurement import TimedMetrics
from nas.study import checked, study_rows
from nas.study.database_time import Moment
from nas.study.drivers import GRACE_SECONDS, Driver, Drivers, StopRequest, dead
from nas.study.job_answers import Acquired, Lease, Lost, NewJob
from nas.study.job_claims import JobClaims, Request
from nas.study.job_preparation import prepare
from nas.study.job_tables import DRIVERS, FINISHED, JOBS, STUDIES, Kind, Phase
from nas.study.spool import Spool, SpooledState, Told
from nas.study.study_jobs import StudyJobs
from nas.study.transactions import Database

TRIALS = (Kind.TRIAL,)
BUDGET = "budget"
"""The study's attribute that holds the budget for readers, beside the row that drivers go by."""
J = JOBS.c
T = TypeVar("T")
log = logging.getLogger("nas")


class Leases:
    """Holds the leases of one driver on one study. Any thread may use it.

    Raises OutOfReach when the database does not answer for long, Lost when a job has another owner by now, and Conflict
    when the study was deleted. `late_writes` counts what was refused as Lost.
    """

    def __init__(
        self,
        jobs: StudyJobs,
        driver: Driver,
        grace: float = GRACE_SECONDS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`grace` is the age in seconds at which a heartbeat says that a driver is dead; `clock`: see JobClaims."""
        self.jobs, self.driver, self.grace, self.late_writes = jobs, driver, grace, 0
        self.spool: Spool | None = None
        """It keeps results that the database does not take; without one, they are lost with the driver."""
        self._kept = set[int]()
        self._claims = JobClaims(jobs, driver, grace, clock)

    def acquire(
        self,
        nonce: str,
        proposal: NewJob | None = None,
        *,
        kinds: Collection[Kind] = TRIALS,
        marks: Mapping[str, Any] | None = None,
    ) -> Acquired:
        """Returns a lease on the next job of these kinds, or says what to do instead.

        A nonce names one request: a driver that got no answer, not even an error, repeats the call with the same one,
        and takes a new one after each lease. `marks` are attributes that the attempt stores. A proposal that was not
        needed (`lease.origin` is not NEW) may be offered again.
        """
        return self.jobs.database.write(
            lambda connection: self._claims.acquire(connection, Request(nonce, proposal, kinds, marks or {}))
        )

    def claim(self, nonce: str, jobs: Sequence[NewJob], *, marks: Mapping[str, Any] | None = None) -> Acquired:
        """Returns a lease on the first of these jobs that can run: a new one, one that waits, or a dead driver's.

        These are jobs of other kinds than trials, which count in no budget. WAIT: all that have not ended run
        elsewhere. END: all have ended. `nonce` and `marks` are those of `acquire`.
        """
        request = Request(nonce, None, (), marks or {})
        return self.jobs.database.write(lambda connection: self._claims.claim(connection, jobs, request))

    def enqueue(self, job: NewJob) -> tuple[int, bool]:
        """Adds a job that waits, and runs before anything new.

        Returns the trial's number (the id of a job of another kind), and False where the study had that key before.
        """
        nonce = uuid4().hex
        return self.jobs.database.write(lambda connection: self._claims.enqueue(connection, job, nonce))

    def note(self, lease: Lease, attributes: Mapping[str, Any], hardware: str | None = None) -> None:
        """Stores attributes of a running job, and the hardware on which it really runs."""
        self._while_running(lease, attributes, {} if hardware is None else {"hardware": hardware})

    def rung(self, lease: Lease, step: int, checkpoint: str | None, attributes: Mapping[str, Any]) -> None:
        """Stores that a running job has reached a rung: its step, its checkpoint, and attributes, all or nothing."""
        self._while_running(lease, attributes, {"step": step, "checkpoint": checkpoint})

    def tell(
        self,
        lease: Lease,
        state: TrialState,
        values: Sequence[float] | None,
        *,
        trained: bool,
        attributes: Mapping[str, Any] | None = None,
        violations: Mapping[str, float] | None = None,
    ) -> bool:
        """Ends a job: attributes, values, limits and state in one transaction. `trained` counts towards the budget.

        Returns False when this attempt was told before; its first result stays. Raises Kept where the database is out
        of reach, and the spool has the result.
        """
        phase, counts = (Phase.TRAINED if trained else Phase.OTHER), trained and lease.kind is Kind.TRIAL

        def body(connection: sql.Connection) -> bool:
            if not self._owns(connection, lease, FINISHED):
                return False
            change = self._claims.set_attributes(connection, lease.job_id, lease.trial_id, attributes or {})
            if lease.trial_id is not None:
                self.jobs.trials.finish(connection, lease.trial_id, state, values, violations or {})
            self.jobs.change(connection, {lease.job_id: {**change, "phase": phase}}, trained=int(counts))
            return True

        try:
            return self._write(lease, body)
        except OutOfReach as error:
            if self.spool is None:
                raise
            self._kept.add(lease.job_id)
            told = Told(cast("SpooledState", state.name), values, trained, attributes or {}, violations or {})
            raise self.spool.keep(self.driver.id, lease, told, error) from error

    def release(self, lease: Lease) -> bool:
        """Puts a running job back, to wait for its next attempt. False where it was put back before, or is lost."""

        def body(connection: sql.Connection) -> bool:
            if not self._owns(connection, lease, (Phase.WAITING,)):
                return False
            self._put_back(connection, [(lease.job_id, lease.trial_id)])
            return True

        try:
            return self._write(lease, body)
        except Lost:
            return False

    def leave(self) -> None:
        """Puts back every job that this driver still runs, besides those with a kept result, and ends it."""

        def body(connection: sql.Connection) -> None:
            self.jobs.lock(connection)
            mine = J.driver == self.driver.id, J.phase == Phase.RUNNING, J.job_id.not_in(self._kept)
            left = self.jobs.held(connection, *mine)
            if left:
                self._put_back(connection, [(row.job_id, row.trial_id) for row in left])
            connection.execute(DRIVERS.update().where(DRIVERS.c.driver == self.driver.id).values(ended=Moment()))

        self.jobs.database.write(body)

    def set_budget(self, budget: int) -> int:
        """Raises the budget for every driver of the study, or lowers it while no other driver lives.

        Returns what holds now: beside other drivers, a smaller one changes nothing.
        """

        def body(connection: sql.Connection) -> int:
            self.jobs.lock(connection)
            row = STUDIES.c.study_id == self.jobs.study_id
            known = connection.execute(sql.select(STUDIES.c.budget, self._others().label("others")).where(row)).first()
            if known is None:
                self.jobs.deleted()
            if budget < known.budget and known.others:
                return int(known.budget)
            connection.execute(STUDIES.update().where(row).values(budget=budget))
            study_rows.set_attribute(connection, self.jobs.study_id, BUDGET, budget)
            return budget

        return self.jobs.database.write(body)

    def settle(self, key: str, value: Any) -> bool:
        """Stores an attribute of a study that has no trial yet and no other living driver. Returns whether it did."""

        def body(connection: sql.Connection) -> bool:
            self.jobs.lock(connection)
            trials = sql.select(sql.func.count()).where(J.study_id == self.jobs.study_id, J.kind == Kind.TRIAL)
            looked = connection.execute(sql.select(trials.scalar_subquery() + self._others())).scalar_one()
            if not looked:
                study_rows.set_attribute(connection, self.jobs.study_id, key, value)
            return not looked

        return self.jobs.database.write(body)

    def attributes(self, connection: sql.Connection, job_id: int) -> dict[str, Any]:
        """Returns the attributes of a job that is no trial, in a transaction of the caller."""
        return self._claims.attributes(connection, job_id, None)

    def others(self, *, that_go_on: bool = False) -> int:
        """Returns how many other drivers of the study live; `that_go_on` leaves out those that are told to stop."""
        wanted = sql.select(self._others(*([DRIVERS.c.stop == int(StopRequest.GO)] if that_go_on else [])))
        return int(self.jobs.database.read(lambda connection: connection.execute(wanted).scalar_one()))

    def remeasured(self, lease: Lease, number: int, later: TimedMetrics) -> None:
        """Stores a later measurement of a finished trial, for the driver that holds the lease on the closing job.

        Raises Lost where another driver has it by now.
        """

        def body(connection: sql.Connection) -> None:
            self._owns(connection, lease)
            found = self.jobs.held(connection, J.number == number)
            told = {checked.REMEASURED: later.metrics, checked.MEASUREMENT: later.measurement}
            for prefix, value in told.items():
                study_rows.set_attribute(connection, self.jobs.study_id, f"{prefix}{number}", dict(value))
            self.jobs.change(connection, {row.job_id: {"driver": self.driver.id} for row in found})

        self._write(lease, body)

    def _others(self, *which: sql.ColumnElement[bool]) -> sql.ScalarSelect[Any]:
        alive = sql.and_(DRIVERS.c.driver != self.driver.id, sql.not_(dead(self.grace)))
        ours = DRIVERS.c.study_id == self.jobs.study_id
        return sql.select(sql.func.count()).where(ours, alive, *which).scalar_subquery()

    def _while_running(self, lease: Lease, attributes: Mapping[str, Any], change: Mapping[str, Any]) -> None:
        def body(connection: sql.Connection) -> None:
            self._owns(connection, lease)
            own = self._claims.set_attributes(connection, lease.job_id, lease.trial_id, attributes)
            self.jobs.change(connection, {lease.job_id: {**own, **change}})

        self._write(lease, body)

    def _owns(self, connection: sql.Connection, lease: Lease, ended: Collection[Phase] = ()) -> bool:
        """Proves that this driver runs this attempt of the job, and holds it. It is the first statement: the fence.

        False where this attempt has `ended` so before. Raises Lost.
        """
        found = self.jobs.held(connection, J.job_id == lease.job_id)
        if not found:
            self.jobs.deleted()
        now = found[0]
        if (now.attempt, now.driver) == (lease.attempt, self.driver.id):
            if now.phase == Phase.RUNNING:
                return True
            if now.phase in ended:
                return False
        raise Lost(f"{lease}: a late write is refused, as the job is {now.phase} in attempt {now.attempt} by now")

    def _put_back(self, connection: sql.Connection, jobs: Sequence[tuple[int, int | None]]) -> None:
        """Ends the attempts of jobs that wait from now on."""
        moment = connection.execute(sql.select(Moment())).scalar_one()
        ended = moment if self._claims.clock is None else self._claims.clock()
        changes: dict[int, Mapping[str, Any]] = {}
        for job_id, trial_id in jobs:
            *earlier, last = self._claims.attributes(connection, job_id, trial_id).get("attempts") or [[None, None]]
            attempts = {"attempts": [*earlier, [last[0], ended]]}
            change = self._claims.set_attributes(connection, job_id, trial_id, attempts)
            changes[job_id] = {**change, "phase": Phase.WAITING}
            if trial_id is not None:
                self.jobs.trials.set_state(connection, trial_id, TrialState.WAITING)
        self.jobs.change(connection, changes)

    def _write(self, lease: Lease, body: Callable[[sql.Connection], T]) -> T:
        try:
            return self.jobs.database.write(body)
        except Lost as lost:
            self.late_writes += 1
            log.warning("%s", lost)
            raise


def join(
    database: Database,
    name: str,
    budget: int,
    *,
    hardware: str = "",
    grace: float = GRACE_SECONDS,
    clock: Callable[[], float] | None = None,
    confirms: bool = False,
) -> Leases:
    """Makes this process a driver of the study of that name, and prepares the study for several of them.

    `budget` holds where the study has none yet; see `Leases.set_budget`. `confirms`: see `Drivers.register`. Raises
    Conflict where there is no such study.
    """
    jobs = StudyJobs.of_name(database, name)
    prepare(jobs, budget)
    return Leases(jobs, Drivers(jobs, grace).register(hardware, confirms=confirms), grace, clock)
