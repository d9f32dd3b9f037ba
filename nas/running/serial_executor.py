"""Runs one trial after another in this process: for debugging, for tests, and for studies that must repeat exactly."""

import time

from nas.running.events import BodyFactory, Interrupted
from nas.running.job_source import JobSource
from nas.running.stop_control import Level, StopControl

PAUSE_SECONDS = 0.1


def run(source: JobSource, factory: BodyFactory, control: StopControl) -> None:
    """Runs until the source has nothing more, or the control says stop."""
    while control.level() is Level.GO:
        if (job := source.next_job()) is None:
            if source.end is not None:
                return
            time.sleep(PAUSE_SECONDS)  # other drivers run what is left
            continue
        body = factory(job)
        event = body.step()
        while source.report(job, event):
            event = Interrupted() if control.level() is Level.NOW else body.step()
