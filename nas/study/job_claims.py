"""Decides, in one transaction, what a driver that asks for a job gets.

In this order: the job that it has got already, where the answer was lost; the job of a dead driver; a waiting job of
another kind than trials; then, within the budget, a waiting trial, or the trial that the driver proposes.

The study is locked meanwhile, so jobs are handed out and numbered one by one. Results are not locked out, though: a
dead driver's last result may be committed between a look and the change that follows from it. So each change looks
again.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from optuna.trial import TrialState

from nas.study import checked, trial_rows
from nas.study.database_time import Moment
from nas.study.drivers import Driver, dead
from nas.study.job_answers import Acquired, Answer, Lease, NewJob, Origin
from nas.study.job_tables import DRIVERS, JOBS, STUDIES, Kind, Phase
from nas.study.study_jobs import StudyJobs

J = JOBS.c


@dataclass(frozen=True)
class Request:
    """Holds what a driver asks for; see `Leases.acquire`."""

    nonce: str
    proposal: NewJob | None
    kinds: Collection[Kind]
    marks: Mapping[str, Any]


class JobClaims:
    """Hands out the jobs of a study to one driver. Every method is a part of a transaction of the caller.

    `clock` gives the times that an attempt begins and ends, as trials store them; the database's clock by default.
    """

    def __init__(self, jobs: StudyJobs, driver: Driver, grace: float, clock: Callable[[], float] | None = None) -> None:
        self.jobs, self.driver, self.grace, self.clock = jobs, driver, grace, clock
        self._ours, self._looks = J.study_id == jobs.study_id, dict[frozenset[Kind], sql.Select[Any]]()
        trials = jobs.rows.tables["trials"].c
        newest = sql.select(J.trial_id).where(self._ours, J.number.is_not(None)).order_by(J.number.desc()).limit(1)
        later = sql.and_(
            trials.study_id == jobs.study_id, trials.trial_id > sql.func.coalesce(newest.scalar_subquery(), -1)
        )
        # Rows that Optuna itself has added since are counted too; the range of ids keeps that cheap.
        self._next_number = (
            sql.select(sql.func.coalesce(sql.func.max(J.number) + 1, 0)).where(self._ours).scalar_subquery()
            + sql.select(sql.func.count()).where(later).scalar_subquery()
        )

    def acquire(self, connection: sql.Connection, request: Request) -> Acquired:
        """Returns a lease, or what to do instead; see `Leases.acquire`."""
        self.jobs.lock(connection)
        asked = {"nonce_": request.nonce, "key_": request.proposal.key if request.proposal else ""}
        seen = connection.execute(self._look(frozenset(request.kinds)), asked).mappings().first()
        if seen is None:
            self.jobs.deleted()
        if seen["again"] is not None:
            return self._again(connection, seen["again"])
        moment = seen["moment"] if self.clock is None else self.clock()
        for job_id, origin in ((seen["dead"], Origin.TAKEN_OVER), (seen["other"], Origin.WAITING)):
            if lease := self._claim(connection, job_id, origin, request, moment):
                return lease
        if Kind.TRIAL not in request.kinds or seen["trained"] >= seen["budget"]:
            return Answer.WAIT if seen["running_others"] else Answer.END
        if seen["trained"] + seen["running"] >= seen["budget"]:
            return Answer.WAIT
        if lease := self._claim(connection, seen["waiting"], Origin.WAITING, request, moment):
            return lease
        if request.proposal is None:
            return Answer.PROPOSE
        if seen["known"] is not None:
            return Answer.DUPLICATE
        return self._begin(connection, request.proposal, seen["number"], request, moment)

    def enqueue(self, connection: sql.Connection, job: NewJob, nonce: str) -> tuple[int, bool]:
        """Adds a waiting job; see `Leases.enqueue`."""
        self.jobs.lock(connection)
        known = sql.select(J.job_id, J.number, J.nonce).where(self._ours, J.key == job.key)
        if row := connection.execute(known).first():
            return (row.job_id if row.number is None else row.number), row.nonce == nonce
        number = connection.execute(sql.select(self._next_number)).scalar_one() if job.kind is Kind.TRIAL else None
        job_id, _ = self._insert(connection, job, Phase.WAITING, number, nonce, job.attributes)
        return (job_id if number is None else number), True

    def claim(self, connection: sql.Connection, jobs: Sequence[NewJob], request: Request) -> Acquired:
        """Returns a lease on the first of these jobs that can run, or what to do instead; see `Leases.claim`."""
        self.jobs.lock(connection)
        mine = (J.nonce == request.nonce, J.driver == self.driver.id, J.phase == Phase.RUNNING)
        if (again := connection.execute(sql.select(J.job_id).where(self._ours, *mine)).scalar()) is not None:
            return self._again(connection, again)
        keys = [job.key for job in jobs]
        gone = sql.or_(DRIVERS.c.driver.is_(None), dead(self.grace)).label("gone")
        columns = (J.job_id, J.key, J.phase, J.driver, gone)
        known = sql.select(*columns).outerjoin(DRIVERS, DRIVERS.c.driver == J.driver).where(self._ours, J.key.in_(keys))
        found = {row.key: row for row in connection.execute(known)}
        moment = connection.execute(sql.select(Moment())).scalar_one() if self.clock is None else self.clock()
        runs = False
        for job in jobs:
            row = found.get(job.key)
            if row is None:
                return self._begin(connection, job, None, request, moment)
            if row.phase not in (Phase.WAITING, Phase.RUNNING):
                continue
            taken = row.phase == Phase.RUNNING
            if not taken or (row.gone and row.driver != self.driver.id):
                origin = Origin.TAKEN_OVER if taken else Origin.WAITING
                if lease := self._claim(connection, row.job_id, origin, request, moment):
                    return lease
            runs = runs or taken
        return Answer.WAIT if runs else Answer.END

    def set_attributes(
        self, connection: sql.Connection, job_id: int, trial_id: int | None, attributes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Sets attributes of a job where its kind keeps them. Returns what is to be changed in the job's own row."""
        if trial_id is not None:
            self.jobs.trials.set_attributes(connection, trial_id, attributes)
        elif attributes:
            return {"attributes": json.dumps({**self.attributes(connection, job_id, None), **attributes})}
        return {}

    def attributes(self, connection: sql.Connection, job_id: int, trial_id: int | None) -> dict[str, Any]:
        """Returns the attributes of a job. Raises Conflict where they are damaged."""
        place = f"job {job_id}"
        if trial_id is not None:
            return checked.row_attributes(self.jobs.trials.attributes(connection, trial_id), place)
        text = connection.execute(sql.select(J.attributes).where(J.job_id == job_id)).scalar()
        return checked.row_attributes(checked.read(text or "{}", place, "attributes"), place)

    def _look(self, kinds: frozenset[Kind]) -> sql.Select[Any]:
        """Returns the one question, of one snapshot, on which everything is decided. It is built once."""
        if kinds not in self._looks:
            self._looks[kinds] = self._built(kinds)
        return self._looks[kinds]

    def _built(self, kinds: frozenset[Kind]) -> sql.Select[Any]:
        me, trials, others = self.driver.id, [Kind.TRIAL], sorted(kinds - {Kind.TRIAL})

        def only(*where: sql.ColumnElement[bool]) -> sql.ScalarSelect[Any]:
            return sql.select(J.job_id).where(self._ours, *where).scalar_subquery()

        def first(*where: sql.ColumnElement[bool]) -> sql.ScalarSelect[Any]:
            return sql.select(J.job_id).where(self._ours, *where).order_by(J.job_id).limit(1).scalar_subquery()

        def running(of: Collection[Kind]) -> sql.ScalarSelect[Any]:
            where = (self._ours, J.phase == Phase.RUNNING, J.kind.in_(of))
            return sql.select(sql.func.count()).where(*where).scalar_subquery()

        given_up = (
            sql.select(J.job_id)
            .outerjoin(DRIVERS, DRIVERS.c.driver == J.driver)
            .where(self._ours, J.phase == Phase.RUNNING, J.driver.is_distinct_from(me))
            .where(J.kind.in_(sorted(kinds)), sql.or_(DRIVERS.c.driver.is_(None), dead(self.grace)))
            .order_by(J.job_id)
            .limit(1)
        )
        return sql.select(
            STUDIES.c.budget,
            STUDIES.c.trained,
            only(J.nonce == sql.bindparam("nonce_"), J.driver == me, J.phase == Phase.RUNNING).label("again"),
            given_up.scalar_subquery().label("dead"),
            first(J.phase == Phase.WAITING, J.kind.in_(others)).label("other"),
            first(J.phase == Phase.WAITING, J.kind.in_(trials)).label("waiting"),
            only(J.key == sql.bindparam("key_")).label("known"),
            running(trials).label("running"),
            running(others).label("running_others"),
            self._next_number.label("number"),
            Moment().label("moment"),
        ).where(STUDIES.c.study_id == self.jobs.study_id)

    def _again(self, connection: sql.Connection, job_id: int) -> Lease:
        row = connection.execute(sql.select(JOBS).where(J.job_id == job_id)).one()
        return _lease(row, row.attempt, Origin.AGAIN, self.attributes(connection, job_id, row.trial_id))

    def _claim(
        self, connection: sql.Connection, job_id: int | None, origin: Origin, request: Request, moment: float
    ) -> Lease | None:
        """Begins another attempt of a job; None where there is none, or it has ended in this moment."""
        if job_id is None:
            return None
        running = (J.phase == Phase.RUNNING, J.driver.is_distinct_from(self.driver.id))
        still = running if origin is Origin.TAKEN_OVER else (J.phase == Phase.WAITING,)
        row = next(iter(self.jobs.held(connection, J.job_id == job_id, *still)), None)
        if row is None:
            return None
        before, attempt = self.attributes(connection, job_id, row.trial_id), row.attempt + 1
        anew = {**request.marks, **self._attempt(attempt, before.get("attempts", []), moment)}
        change = self.set_attributes(connection, job_id, row.trial_id, anew)
        if row.trial_id is not None and origin is Origin.WAITING:
            self.jobs.trials.set_state(connection, row.trial_id, TrialState.RUNNING)
        self.jobs.change(connection, {job_id: {**change, **self._owner(request.nonce), "attempt": attempt}})
        return _lease(row, attempt, origin, {**before, **anew}, str(before.get("owner", "")).rpartition(":")[0])

    def _begin(
        self, connection: sql.Connection, job: NewJob, number: int | None, request: Request, moment: float
    ) -> Lease:
        """Adds a new job, which is running from its first moment; a trial has a number."""
        attributes = {**job.attributes, **request.marks, **self._attempt(1, [], moment)}
        job_id, trial_id = self._insert(connection, job, Phase.RUNNING, number, request.nonce, attributes)
        return Lease(
            job_id=job_id,
            kind=job.kind,
            key=job.key,
            number=number,
            parent=job.parent,
            trial_id=trial_id,
            attempt=1,
            checkpoint=None,
            step=0,
            origin=Origin.NEW,
            attributes=attributes,
        )

    def _insert(
        self,
        connection: sql.Connection,
        job: NewJob,
        phase: Phase,
        number: int | None,
        nonce: str,
        attributes: Mapping[str, Any],
    ) -> tuple[int, int | None]:
        """Writes a new job, with its row of Optuna's if it is a trial. Returns the ids of both."""
        trial_id = None
        if number is not None:
            state = TrialState.RUNNING if phase is Phase.RUNNING else TrialState.WAITING
            row = trial_rows.template(state, job.params, job.distributions, attributes, job.system)
            trial_id = self.jobs.trials.insert(connection, number, row)
        begun = phase is Phase.RUNNING
        values = {
            "study_id": self.jobs.study_id,
            "kind": job.kind,
            "key": job.key,
            "trial_id": trial_id,
            "number": number,
            "parent": job.parent,
            "phase": phase,
            "attempt": int(begun),
            "nonce": nonce,
            "step": 0,
            "attributes": json.dumps(dict(attributes)) if number is None else None,
            "version": self.jobs.count_change(connection),
        } | (self._owner(nonce) if begun else {})
        job_id: int = connection.execute(JOBS.insert().values(values).returning(J.job_id)).scalar_one()
        return job_id, trial_id

    def _owner(self, nonce: str) -> dict[str, Any]:
        driver = self.driver
        return {"phase": Phase.RUNNING, "driver": driver.id, "nonce": nonce, "hardware": driver.hardware}

    def _attempt(self, attempt: int, earlier: list[Any], moment: float) -> dict[str, Any]:
        """Returns what a job stores of an attempt that begins."""
        return {"attempt": attempt, "attempts": [*earlier, [moment, None]], "owner": self.driver.label}


def _lease(row: Any, attempt: int, origin: Origin, attributes: Mapping[str, Any], before: str = "") -> Lease:
    """Returns the lease on a job. Raises Conflict where the stored kind is none."""
    kind = checked.call(lambda: Kind(row.kind), f"job {row.job_id}")
    return Lease(
        job_id=row.job_id,
        kind=kind,
        key=row.key,
        number=row.number,
        parent=row.parent,
        trial_id=row.trial_id,
        attempt=attempt,
        checkpoint=row.checkpoint,
        step=row.step,
        origin=origin,
        attributes=attributes,
        before=before,
    )
