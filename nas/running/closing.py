"""Ends a search, for all drivers of the study, by one of them: measures the front once more, cleans the folders, and
has the report written.

Whoever comes first holds the lease on the closing job; the others wait until it is done, and take it over when that
driver dies.
"""

import time
from collections.abc import Callable
from uuid import uuid4

from nas.measure import DeviceLock
from nas.measurement import TimedMetrics
from nas.results import TrialResult
from nas.running.cleaning import clean
from nas.running.coordinator import WAIT_SECONDS
from nas.running.events import Observer, waiting
from nas.running.front_measurement import COUNTED, MEMBER_SECONDS, measure_again
from nas.running.measuring import LoneMeasurement
from nas.running.stop_control import Level, StopControl
from nas.running.target_measuring import EAGER
from nas.settings.target_settings import base_of
from nas.study.closing_job import CLOSINGS, begin_closing, end_closing, open_closing
from nas.study.job_answers import Answer, Lease, Lost
from nas.study.leases import Leases
from nas.study.stored_study import StoredStudy
from nas.tasks import Task

AtEnd = Callable[[StoredStudy], object]
"""Does what is left to do with a study whose search has ended, such as its report; twice, if the first driver dies."""


def close_study(
    study: StoredStudy,
    leases: Leases,
    task: Task | None,
    device: str,
    control: StopControl,
    observer: Observer,
    clock: Callable[[], float],
    last: AtEnd,
) -> bool:
    """Measures the front again, cleans up and calls `last`, or waits until another driver has done so.

    Without a `task` nothing is measured again. Returns whether this driver
    did it. Measuring and waiting end when the control says stop.
    """
    lease = _lease(leases, control, observer)
    if lease is None:
        return False
    try:
        begin_closing(leases, lease)
        if task:
            _measure_front(study, leases, lease, task, device, control, observer)
        clean(study)
        last(study)
        end_closing(leases, lease, clock())
    except Lost:
        return False
    return True


def _lease(leases: Leases, control: StopControl, observer: Observer) -> Lease | None:
    """Returns the lease on the closing job; None where another driver has done it, or the control says stop."""
    nonce, since = uuid4().hex, time.time()
    open_closing(leases)
    while control.level() is Level.GO:
        answer = leases.acquire(nonce, kinds=CLOSINGS)
        if isinstance(answer, Lease):
            return answer
        if answer is Answer.END:
            break
        observer(waiting("closing", since=since))
        time.sleep(WAIT_SECONDS)
    return None


def _measure_front(
    study: StoredStudy,
    leases: Leases,
    held: Lease,
    task: Task,
    device: str,
    control: StopControl,
    observer: Observer,
) -> None:
    """Measures the front once more, now that nothing trains: see nas.running.front_measurement."""
    lock = DeviceLock(device)

    def should_stop() -> bool:
        return control.level() is not Level.GO

    def measurer(trial: TrialResult) -> LoneMeasurement:
        counted = {name: value for name, value in trial.metrics.items() if base_of(name) in COUNTED}
        return LoneMeasurement.of(
            trial.model, task, study.file, device, lock, MEMBER_SECONDS, should_stop, counted, runtimes=(EAGER,)
        )

    def keep(number: int, found: TimedMetrics) -> None:
        leases.remeasured(held, number, found)

    measure_again(study, measurer, keep, observer, should_stop)
