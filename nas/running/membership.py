"""Joins a study as one of its drivers and leaves it again: what searches and confirmations do alike."""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nas.errors import OutOfReach
from nas.measure import environment
from nas.running.events import Observer
from nas.running.launch import Launch
from nas.running.stop_control import Level, StopControl
from nas.study.drivers import Heartbeat
from nas.study.leases import Leases, join
from nas.study.spool import Spool
from nas.study.spool_replay import tell_kept
from nas.study.store import Store

log = logging.getLogger("nas")


def joined(
    store: Store, budget: int, launch: Launch, spool: Spool, clock: Callable[[], float], *, confirms: bool = False
) -> Leases:
    """Makes this process a driver of the study, and tells what was kept of earlier ones.

    `budget` holds where the study has none yet; a driver that `confirms` searches nothing.
    """
    now = launch.described or environment()
    hardware = ", ".join(map(str, now["gpus"] or [now["cpu"]]))
    leases = join(store.database, store.name, budget, hardware=hardware, clock=clock, confirms=confirms)
    leases.spool = spool
    tell_kept(spool, leases.jobs)
    return leases


def leave(leases: Leases) -> None:
    """Puts back what this driver still runs, and tells what was kept meanwhile.

    Where the database does not answer, others find its heartbeat old.
    """
    with suppress(OutOfReach):
        if leases.spool:
            tell_kept(leases.spool, leases.jobs)
        leases.leave()
    if leases.late_writes:
        log.warning("%d late writes were refused: other drivers have those trials", leases.late_writes)


def stop_control(
    folder: Path,
    launch: Launch,
    leases: Leases,
    heartbeat: Heartbeat,
    observer: Observer,
    should_stop: Callable[[], bool],
) -> StopControl:
    """Makes the control that stops this driver: by signals, by `nas stop`, by its time, by `should_stop`."""

    def alone() -> bool:
        with suppress(OutOfReach):
            return leases.others() == 0
        return False

    return StopControl(
        folder,
        launch.seconds,
        lambda level: observer({"type": "stopping", "level": level.name}),
        hosted=launch.hosted,
        driver=leases.driver.id,
        requested=lambda: Level.NOW if should_stop() else Level(heartbeat.stop),
        alone=alone,
    )
