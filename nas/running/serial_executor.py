"""Runs one trial after another in this process: for debugging, for tests, and for studies that must repeat exactly."""

import time

from nas.running.coordinator import Coordinator
from nas.running.events import BodyFactory, Interrupted
from nas.running.stop_control import Level, StopControl

PAUSE_SECONDS = 0.1


def run(coordinator: Coordinator, factory: BodyFactory, control: StopControl) -> None:
    """Runs until the coordinator has nothing more, or the control says stop."""
    while control.level() is Level.GO:
        if (job := coordinator.next_job()) is None:
            if coordinator.end is not None:
                return
            time.sleep(PAUSE_SECONDS)  # other drivers run what is left
            continue
        body = factory(job)
        event = body.step()
        while coordinator.report(job, event):
            event = Interrupted() if control.level() is Level.NOW else body.step()
