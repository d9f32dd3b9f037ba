"""Confirms with what a launch has: plans, runs the jobs, and tidies up once nothing is left to do."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from nas.confirm.confirmed_values import ConfirmedValues
from nas.confirm.front_chances import FrontChances
from nas.confirm.race import Race
from nas.confirmation import hardware_name
from nas.errors import Conflict, OutOfReach, UsageError
from nas.formatting import duration
from nas.measure import environment, hardware_id
from nas.results import StudyRecord
from nas.running import confirmation_plan
from nas.running import serial_executor as serial
from nas.running.closing import AtEnd, close_study
from nas.running.confirmation_jobs import ConfirmationJobs, End, training_seconds
from nas.running.confirmation_plan import Plan
from nas.running.confirmation_run import confirmation_run
from nas.running.confirmed_trials import Chosen, chosen
from nas.running.events import Observer
from nas.running.launch import Launch
from nas.running.own_body import OwnBody
from nas.running.placement import Placement
from nas.running.proposer import seed_of
from nas.running.stop_control import Level, StopControl, told_to_stop
from nas.running.trial import end_team
from nas.settings.study_file import StudyFile
from nas.study.checked import RACE
from nas.study.drivers import Drivers, StopRequest
from nas.study.leases import Leases
from nas.study.limits import limits
from nas.study.store import Store
from nas.study.stored_confirmations import Confirmed
from nas.study.stored_study import StoredStudy
from nas.surroundings import one_blas_thread

SEEDS, MOST = 3, 8
"""Every member is trained with so many new seeds at first, and with so many at most."""


@dataclass(frozen=True)
class Wish:
    """Holds what is asked of a confirmation: its numbers of seeds, limits on the front, the length of a training.

    `here` measures on this machine where the study was measured on other hardware.
    """

    seeds: int = SEEDS
    most: int = MOST
    where: tuple[str, ...] = ()
    steps: int | None = None
    here: bool = False


@dataclass(frozen=True)
class Ended:
    """Tells how a confirmation ended; `end` is None where it was told to stop, or its budget was over.

    `closed` is False where another driver tidies up.
    """

    study: StoredStudy
    plan: Plan
    now: Confirmed
    end: End | None
    signal: int | None
    seconds: float
    closed: bool = True


@dataclass(frozen=True)
class Session:
    """Holds what a driver confirms with. `end_of` is when the budget ends, by the monotonic clock."""

    study: StoredStudy
    file: StudyFile
    own: OwnBody | None
    launch: Launch
    placement: Placement
    control: StopControl
    observer: Observer
    leases: Leases
    clock: Callable[[], float]
    expired: Callable[[], bool]
    at_end: AtEnd

    def confirm(self, wish: Wish, *, whole_round: bool = True) -> Ended:
        """Runs until nothing is left to do, the budget is over, or the control says stop; then tidies up.

        Raises NothingFeasible for an empty front, and Conflict for hardware other than the study's. With `whole_round`,
        raises UsageError for a budget that is too small for the first seeds.
        """
        started, record = time.monotonic(), self.study.record()
        trials = chosen(record, wish.where)
        plan = self._plan(record, trials, wish)
        jobs = ConfirmationJobs(
            self.leases,
            self.file,
            plan,
            clock=self.clock,
            observer=self.observer,
            expired=self.expired,
            time_left=self.control.time_left,
        )
        if whole_round:
            self._refuse_small_budget(plan, jobs)
        self.observer(_introduction(self.study, trials, plan, jobs.now))
        keep_race(self.study.store, plan.race)
        end = self._run(plan, jobs)
        closed = self._is_last() if end is None else True
        if end is not None:
            closed = self._close()
        return Ended(self.study, plan, jobs.now, end, self.control.signal, time.monotonic() - started, closed)

    def _plan(self, record: StudyRecord, trials: Chosen, wish: Wish) -> Plan:
        now, steps = dict(self.launch.described or environment()), wish.steps or self.file.train.steps
        plan = Plan(
            members=trials.trials,
            objectives=record.objectives,
            constraints=(*record.constraints, *limits(record, wish.where)),
            first=wish.seeds,
            most=wish.most,
            steps=steps,
            own_steps=self.file.train.steps,
            seeds=partial(seed_of, self.file.search.seed, "confirmation"),
            hardware=hardware_name(now),
            blocks=confirmation_plan.BLOCKS,
            apart=confirmation_plan.APART_SECONDS,
            tests=self.own is None,
            chances=partial(_chances, record, steps),
        )
        if plan.timed and not wish.here and hardware_id(record.environment) != hardware_id(now):
            raise Conflict(
                f"study '{record.name}' was measured on other hardware",
                code="hardware-changed",
                detail=f"stored {hardware_name(record.environment)}\nhere   {plan.hardware}",
                help="--here   measures its front on this machine, and stores the times under its name",
            )
        return plan

    def _refuse_small_budget(self, plan: Plan, jobs: ConfirmationJobs) -> None:
        """Raises UsageError where the budget ends before every member has its first seeds and its measurements."""
        if (seconds := self.control.time_left()) is None:
            return
        tasks = plan.step(jobs.now, self.clock()).tasks
        trainings = [task for task in tasks if task.does == "training" and not task.later]
        slots = 1 if self.launch.executor == "serial" else self.placement.slots
        needed = sum(training_seconds(plan, jobs.now, task) for task in trainings) / slots
        missing = max((plan.missing_blocks(jobs.now, trial.number) for trial in plan.members), default=0)
        needed = max(needed, (missing - 1) * plan.apart)
        if needed > seconds:
            text = f"the first round takes about {duration(needed)}, more than the budget of {duration(seconds)}"
            raise UsageError(
                text,
                code="small-budget",
                where="budget",
                detail=f"{len(plan.members)} members, {len(trainings)} trainings left, {plan.blocks} measurements each",
                help="give more, fewer --seeds, or a --where that leaves fewer members",
            )

    def _run(self, plan: Plan, jobs: ConfirmationJobs) -> End | None:
        """Runs the jobs; None where it was told to stop."""
        train = self.file.train.model_copy(update={"steps": plan.steps, "time_limit": None})
        factory = partial(
            confirmation_run,
            file=self.file.model_copy(update={"train": train}),
            folder=self.study.folder.absolute(),
            device=self.placement.device,
            run_folder=self.study.run_folder,
            body=self.own,
        )
        control = self.control
        try:
            if self.launch.executor == "serial":
                serial.run(jobs, partial(factory, should_stop=lambda: control.level() is Level.NOW), control)
            elif jobs.left:
                from nas.running import ray_executor as ray_tune  # two seconds of imports

                here = partial(told_to_stop, self.study.folder.absolute(), self.leases.driver.id)
                with one_blas_thread():
                    ray_tune.run(jobs, partial(factory, should_stop=here), control, self.placement)
            else:
                serial.run(jobs, factory, control)  # nothing is left but to wait, or to see that nothing is left
        finally:
            end_team()
            jobs.close()
        return jobs.end if control.level() is Level.GO else None

    def _is_last(self) -> bool:
        """Tells whether no other driver goes on, as far as the database answers."""
        with suppress(OutOfReach):
            Drivers(self.leases.jobs).request_stop(StopRequest.FINISH, self.leases.driver.id)
            return self.leases.others(that_go_on=True) == 0
        return True

    def _close(self) -> bool:
        """Tidies up, for all drivers by one of them: the files of the trainings go, and the report is written."""

        def last(study: StoredStudy) -> None:
            clean_retrained(study)
            self.at_end(study)

        device = self.placement.device
        return close_study(self.study, self.leases, None, device, self.control, self.observer, self.clock, last)


def _chances(record: StudyRecord, steps: int, now: Confirmed) -> Mapping[int, float]:
    """Returns each member's probability to be on the front, by trainings of that length."""
    found = {number: replace(each, retrainings=each.of_steps(steps)) for number, each in now.results.items()}
    return FrontChances.of(ConfirmedValues.of(replace(record, confirmed=found))).shares


def clean_retrained(study: StoredStudy) -> None:
    """Deletes the files of all trainings that confirmed a trial. Raises OutOfReach."""
    kept = study.run_folder
    kept.require()
    for name in kept.retrainings():
        kept.retraining(name).delete_all()


def _introduction(study: StoredStudy, trials: Chosen, plan: Plan, now: Confirmed) -> dict[str, object]:
    """Returns the first event: what is confirmed, and how."""
    return {
        "type": "confirming",
        "name": study.name,
        "folder": str(study.folder),
        "front": [trial.number for trial in trials.front],
        "near": [trial.number for trial in trials.near],
        "seeds": plan.first,
        "most": plan.most,
        "steps": plan.steps,
        "trained": sum(bool(r) for trial in plan.members for r in plan.retrainings(now, trial.number)),
        "blocks": plan.blocks if plan.timed and plan.tests else 0,
        "hardware": plan.hardware,
    }


def keep_race(store: Store, race: Race) -> None:
    """Stores how often the results may be looked at, for whoever tells what they prove; the most looks count."""
    stored = store.attributes().get(RACE)
    if stored is None or stored[1] < race.most:
        store.set_attribute(RACE, [race.first, race.most])
