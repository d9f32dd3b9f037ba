"""Runs one trial after another in this process: for debugging, for tests, and for studies that must repeat exactly."""

from nas.running.coordinator import Coordinator
from nas.running.events import BodyFactory, Interrupted
from nas.running.stop_control import Level, StopControl


def run(coordinator: Coordinator, factory: BodyFactory, control: StopControl) -> None:
    """Runs until the coordinator has nothing more, or the control says stop."""
    while control.level() is Level.GO and (job := coordinator.next_job()) is not None:
        body = factory(job)
        event = body.step()
        while coordinator.report(job, event):
            event = Interrupted() if control.level() is Level.NOW else body.step()
