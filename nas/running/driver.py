"""Runs one launch of a search: opens or creates the study, joins its drivers, runs trials, and closes the study.

A launch on a stored study continues it when the file agrees with what is stored. Only settings that cannot change a
result (the budget, the resources, a time limit) may differ.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import temporary_folders
from nas.body import BodyFunction
from nas.data.place import with_absolute_corpus
from nas.errors import OutOfReach
from nas.folders import require_current_folder
from nas.running import own_body
from nas.running import serial_executor as serial
from nas.running.budget import End
from nas.running.closing import AtEnd, close_study
from nas.running.confirmation_session import MOST, Session, Wish
from nas.running.coordinator import Coordinator
from nas.running.events import Observer, data_progress
from nas.running.first_trials import enqueue_first
from nas.running.known_costs import known_costs
from nas.running.launch import Launch
from nas.running.membership import joined, leave, stop_control
from nas.running.opening import Opened, open_or_create
from nas.running.own_body import OwnBody
from nas.running.own_trial import OwnTrial
from nas.running.placed import placed
from nas.running.placement import Placement, refuse_network
from nas.running.same_study import with_stored_versions
from nas.running.stop_control import Level, StopControl, told_to_stop
from nas.running.trial import TrialRun, end_team
from nas.running.work_log import WorkLog
from nas.settings.study_file import StudyFile
from nas.study import creation, run_folders
from nas.study.database import DATABASE
from nas.study.database_time import database_clock
from nas.study.drivers import Drivers, Heartbeat, StopRequest
from nas.study.leases import Leases
from nas.study.lock import driver_lock
from nas.study.spool import Spool
from nas.study.stored_study import StoredStudy
from nas.study.transactions import Database
from nas.surroundings import one_blas_thread
from nas.tasks import Task, open_task
from nas.training.torch_state import borrowed_torch

if TYPE_CHECKING:
    from nas.running.ray_start import OwnRay

log = logging.getLogger("nas")


@dataclass(frozen=True)
class Outcome:
    """Tells how a launch ended. `end` is None when it was interrupted or ran out of time.

    `closed` is False where another driver closes the study, or has done so. `unconfirmed` tells that the search has an
    end, and was stopped while it confirmed its front.
    """

    study: StoredStudy
    end: End | None
    signal: int | None
    seconds: float
    closed: bool = True
    unconfirmed: bool = False


def run(
    file: StudyFile,
    folder: Path,
    launch: Launch,
    observer: Observer = lambda event: None,
    body: BodyFunction | str | None = None,
    database: Database | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    at_end: AtEnd = lambda study: None,
) -> Outcome:
    """Searches in this folder until the budget is reached or the search has to stop.

    `body` is a training of the user's own, a function or "module:function"; by default it is the file's, if it has one.
    `database` holds the rows; by default it is `study.db` in the folder. Once `should_stop` says so, running trials
    save their state, and the search ends. Of all drivers whose search has an end, one calls `at_end`.

    Raises Conflict (a driver of an earlier version, other settings, data or hardware), OutOfReach (disk, database, Ray)
    and UsageError.
    """
    require_current_folder()
    file, own = own_body.chosen(file, body)
    try:
        with placed(file, launch.cpus, launch.gpus, launch.ray_address, observer) as placement:
            described = placement.cluster.environment if placement.cluster else None
            launch = replace(launch, described=described)
            return _run(file, own, folder, launch, placement, observer, database, should_stop, at_end)
    finally:
        temporary_folders.sweep()  # Ray kills workers that hold copies of trials' files


def _run(
    file: StudyFile,
    own: OwnBody | None,
    folder: Path,
    launch: Launch,
    placement: Placement,
    observer: Observer,
    database: Database | None,
    should_stop: Callable[[], bool],
    at_end: AtEnd,
) -> Outcome:
    started = time.monotonic()
    file = with_absolute_corpus(placement.fitted(file))
    creation.refuse_foreign(folder)
    refuse_network(folder)
    with _ray_ahead(file, folder, launch, placement, database) as ray:
        task = None if own else open_task(file.task, data_progress(observer))
        with driver_lock(folder), borrowed_torch():
            opened = open_or_create(folder, file, launch, task, database)
            try:
                file = with_stored_versions(file, opened.store.attributes())
                clock = database_clock(opened.store.database)
                spool = Spool(folder, opened.store.name, len(file.objective_list()))
                leases, work = _joined(opened, launch, spool, clock, observer), WorkLog(opened.store, clock)
                with Heartbeat(Drivers(leases.jobs), leases.driver) as heartbeat:
                    try:
                        control = stop_control(folder, launch, leases, heartbeat, observer, should_stop)
                        control.on_look = work.beat
                        kept = run_folders.to_run(opened.store, folder, launch.folder, leases)
                        server = database.server if database else None
                        study = StoredStudy(folder, opened.store, server, run_folder=kept, named=launch.folder)

                        def last(study: StoredStudy) -> None:
                            work.close()  # until now, the report tells
                            at_end(study)

                        search = _Search(
                            study, file, launch, placement, control, observer, task, own, leases, clock, ray, work, last
                        )
                        end, closed, unconfirmed = search.run(lambda: heartbeat.expired)
                    finally:
                        leave(leases)
                        work.close()
            finally:
                opened.store.close()
    return Outcome(study, end, control.signal, time.monotonic() - started, closed, unconfirmed)


def _ray_ahead(
    file: StudyFile, folder: Path, launch: Launch, placement: Placement, database: Database | None
) -> AbstractContextManager["OwnRay | None"]:
    """Begins to start Ray, and ends it in any case, where a new study is sure to need it.

    Ray and its workers take seconds to start, in which the data is read and the study made.
    """
    if launch.executor != "ray" or placement.cluster or database or (folder / DATABASE).exists():
        return nullcontext()
    from nas.running.ray_start import OwnRay

    return closing(OwnRay.begin(placement, launch.trials or file.search.trials))


def _joined(opened: Opened, launch: Launch, spool: Spool, clock: Callable[[], float], observer: Observer) -> Leases:
    """Makes this process a driver of the study, with the budget that the launch asks for."""
    leases = joined(opened.store, opened.known, launch, spool, clock)
    if opened.budget != opened.known:
        budget = leases.set_budget(opened.budget)
        if budget != opened.known:
            observer({"type": "budget", "budget": budget, "before": opened.known})
        if budget != opened.budget:
            log.warning("the budget stays %d, since other drivers work on the study", budget)
    return leases


@dataclass(frozen=True)
class _Search:
    """Holds what one launch searches with."""

    study: StoredStudy
    file: StudyFile
    launch: Launch
    placement: Placement
    control: StopControl
    observer: Observer
    task: Task | None
    own: OwnBody | None
    leases: Leases
    clock: Callable[[], float]
    ray: "OwnRay | None"
    work: WorkLog
    at_end: AtEnd

    def run(self, expired: Callable[[], bool]) -> tuple[End | None, bool, bool]:
        """Runs trials, then closes the study. Returns the end, whether this driver closed it, and whether it was
        stopped while it confirmed the front.
        """
        unconfirmed = False
        with self.control.signals():
            coordinator = self._coordinator(expired)
            end = self._trials(coordinator)
            closed = self._is_last() if end is None else not coordinator.others_run
            if end is not None and closed:
                task, device = self.task if self.placement.measures_here() else None, self.placement.device
                closed = close_study(
                    self.study, self.leases, task, device, self.control, self.observer, self.clock, self.at_end
                )
            if end not in (None, End.FAILURES) and not coordinator.others_run:
                closed, unconfirmed = self._confirm(expired, closed)
        return end, closed, unconfirmed

    def _confirm(self, expired: Callable[[], bool], closed: bool) -> tuple[bool, bool]:
        """Confirms the front where the study file says so. Returns whether this driver wrote the report at last, and
        whether it was stopped meanwhile.
        """
        seeds = self.file.search.confirm
        if not seeds or not self.study.front():
            return closed, False
        if self.control.level() is not Level.GO:
            return closed, True
        self.work.end()
        session = Session(
            study=self.study,
            file=self.file,
            own=self.own,
            launch=self.launch,
            placement=self.placement,
            control=self.control,
            observer=self.observer,
            leases=self.leases,
            clock=self.clock,
            expired=expired,
            at_end=self.at_end,
        )
        ended = session.confirm(Wish(seeds, max(MOST, seeds)), whole_round=False)
        return ended.closed or closed, ended.end is None

    def _is_last(self) -> bool:
        """Tells whether no other driver goes on, as far as the database answers: a stop ends the search then.

        Of drivers that stop at one moment, at least one is the last, since each says so before it looks.
        """
        with suppress(OutOfReach):
            Drivers(self.leases.jobs).request_stop(StopRequest.FINISH, self.leases.driver.id)
            return self.leases.others(that_go_on=True) == 0
        return True

    def _coordinator(self, expired: Callable[[], bool]) -> Coordinator:
        task = self.task
        return Coordinator(
            self.leases,
            self.file,
            prefetch=self.launch.executor == "ray",
            max_fail_rate=self.launch.max_fail_rate,
            clock=self.clock,
            observer=self.observer,
            describe=known_costs(self.file, task) if task else None,
            expired=expired,
        )

    def _trials(self, coordinator: Coordinator) -> End | None:
        """Runs trials until the search ends; None where it was told to stop."""
        kind = partial(OwnTrial, body=self.own) if self.own else TrialRun
        folder, control = self.study.folder.absolute(), self.control
        device, kept = self.placement.device, self.study.run_folder
        factory = partial(kind, file=self.file, folder=folder, device=device, run_folder=kept)
        try:
            enqueue_first(coordinator, self.study, self.file, self.launch.retry_failed)
            self.observer(_introduction(self.study, coordinator))
            if self.launch.executor == "serial":
                serial.run(coordinator, partial(factory, should_stop=lambda: control.level() is Level.NOW), control)
            elif coordinator.counts.trained < coordinator.budget:
                from nas.running import (
                    ray_executor as ray_tune,  # two seconds of imports that the serial executor does without
                )

                told_to_stop_here = partial(told_to_stop, folder, self.leases.driver.id)
                with one_blas_thread():
                    here = partial(factory, should_stop=told_to_stop_here)
                    ray_tune.run(coordinator, here, control, self.placement, self.ray)
        finally:
            end_team()  # the serial executor's; those of a worker end with it
            coordinator.close()
        return coordinator.end if control.level() is Level.GO else None


def _introduction(study: StoredStudy, coordinator: Coordinator) -> dict[str, Any]:
    """Returns the first event: what the study holds already."""
    record = study.record()
    values = [t.values(record.objectives) for t in record.trials if t.eligible]
    facts = {"name": study.name, "folder": str(study.folder), "budget": coordinator.budget}
    return {"type": "study", **facts, "counts": asdict(coordinator.counts), "values": values}
