"""The time of a study and of its trials survives kills, and pauses do not count. Clocks are simulated."""

import time

from nas.architecture import Architecture
from nas.errors import OutOfReach
from nas.running.coordinator import Coordinator
from nas.running.events import Measured
from nas.running.work_log import BEAT_SECONDS, WorkLog
from nas.study.leases import Leases, join
from nas.study.standing import standing
from nas.study.store import Store, sqlite_url
from nas.study.stored_study import StoredStudy
from tests.running.tables import cheap, settings


def created(folder) -> Store:
    file = settings("constraints=[]")
    store = Store.create(sqlite_url(folder), file.name, file.objective_list())
    store.set_attribute("settings", file.resolved())
    store.set_attribute("created", 0.0)
    return store


def driver(store: Store, now: list[float]) -> Leases:
    """A driver that takes every other one for dead."""
    return join(store.database, store.name, 2, grace=0.0, clock=lambda: now[0])


def test_a_night_between_a_kill_and_a_resume_is_no_time_of_the_search(tmp_path):
    store, now = created(tmp_path), [1000.0]
    file = settings("constraints=[]")
    log = WorkLog(store, lambda: now[0])
    killed = Coordinator(driver(store, now), file, clock=lambda: now[0])
    job = killed.next_job()
    killed.report(job, Measured(cheap(Architecture.model_validate(dict(job.architecture)))))
    for now[0] in (1005.0, 1015.0, 1019.0, 1040.0, 1043.0):
        log.beat()
    # Killed at 1043: last seen at 1040. The next launch comes half an hour later.
    now[0] = 3000.0
    log = WorkLog(store, lambda: now[0])
    again = Coordinator(driver(store, now), file, clock=lambda: now[0])
    assert again.next_job().number == 0
    now[0] = 3007.0
    again.close()
    for each in (killed, again):  # both are this process, which lives on
        each.leases.leave()
    log.close()
    study = StoredStudy(tmp_path, store)
    record = study.record()
    assert record.worked == ((1000.0, 1040.0), (3000.0, 3007.0))
    assert record.trials[0].attempts == ((1000.0, 1040.0), (3000.0, 3007.0))
    assert record.trials[0].seconds == 47
    assert standing(study)["elapsed_seconds"] == 47
    store.close()


def test_a_beat_is_written_now_and_then_and_a_full_disk_is_left_to_others_to_tell():
    class Writes:
        def __init__(self):
            self.written = []

        def set_attribute(self, key, value):
            self.written.append(value)
            raise OutOfReach("the disk is full")

    store, now = Writes(), [0.0]
    log = WorkLog(store, lambda: now[0])
    for _ in range(100):
        now[0] += 1.0
        log.beat()
    assert len(store.written) == 1 + 100 / BEAT_SECONDS


def test_a_study_of_an_earlier_version_falls_back_on_what_it_has(tmp_path):
    store = created(tmp_path)
    study = StoredStudy(tmp_path, store)
    assert (study.record().worked, standing(study)["elapsed_seconds"]) == ((), 0.0)
    assert study.record().created < time.time()
    store.close()
