"""What others changed is read once, whole, and without a gap, on SQLite and PostgreSQL."""

import threading
from typing import Any

import pytest
import sqlalchemy as sql
from optuna.trial import TrialState

from nas.errors import Conflict
from nas.study.job_changes import changes
from nas.study.job_tables import Phase
from tests.study.shared_study import begun, new, told


def test_only_what_changed_is_read_and_it_is_whole(study):
    driver, jobs = study.driver(), study.jobs
    start = changes(jobs)
    assert (start.jobs, start.rows, start.budget, start.trained) == ((), (), 100, 0)
    a, b = begun(driver, "a"), begun(driver, "b")
    first = changes(jobs, start.version)
    assert [row.number for row in first.rows] == [0, 1]
    assert changes(jobs, first.version).jobs == ()
    driver.rung(b, 10, "rung-10.a1", {"rungs": [{"step": 10, "seconds": 1.0, "metrics": {"val_loss": 2.5}}]})
    told(driver, a, violations={"params": -1.0})
    second = changes(jobs, first.version)
    assert [(job.number, job.phase, job.step) for job in second.jobs] == [(1, Phase.RUNNING, 10), (0, Phase.TRAINED, 0)]
    assert list(second.rows) == study.trials()
    assert second.trained == 1


def test_a_drivers_own_changes_are_left_out_unless_another_took_the_job(study):
    slow, other = study.driver(), study.driver(grace=0.0)
    begun(slow, "a")
    begun(slow, "b")
    assert changes(slow.jobs, besides=slow.driver.id).jobs == ()
    assert len(changes(other.jobs, besides=other.driver.id).jobs) == 2
    other.acquire("n")
    assert [job.number for job in changes(slow.jobs, besides=slow.driver.id).jobs] == [0]
    slow.enqueue(new("c"))
    assert [job.number for job in changes(slow.jobs, besides=slow.driver.id).jobs] == [0, 2]


def test_a_change_that_is_seen_later_has_a_later_version(study):
    """A write that has its version, and whose transaction is still open, keeps all others from getting theirs."""
    first, second, reader = study.driver(), study.driver(), study.jobs
    a, b = begun(first, "a"), begun(second, "b")
    start = changes(reader).version
    counted, go_on = threading.Event(), threading.Event()

    def slowly(connection: Any) -> None:
        held = first.jobs.held(connection, *[])
        first.jobs.change(connection, {held[0].job_id: {}})
        counted.set()
        go_on.wait(20)

    threads = [threading.Thread(target=first.jobs.database.write, args=(slowly,))]
    threads[0].start()
    assert counted.wait(20)
    threads.append(threading.Thread(target=told, args=(second, b)))
    threads[1].start()
    assert changes(reader, start).jobs == ()
    go_on.set()
    for thread in threads:
        thread.join()
    found = changes(reader, start)
    assert [job.number for job in found.jobs] == [a.number, b.number]
    assert [job.version for job in found.jobs] == [start + 1, start + 2]


def test_what_is_read_piece_by_piece_while_three_write_is_what_is_read_at_once(study):
    drivers = [study.driver() for _ in range(3)]
    reader, known, version = study.jobs, dict[int, Any](), 0

    def work(driver: Any, name: str) -> None:
        for i in range(6):
            lease = begun(driver, f"{name}{i}")
            driver.rung(lease, 1, None, {"rungs": [{"step": 1, "seconds": 0.0, "metrics": {}}]})
            told(driver, lease, TrialState.FAIL if i % 3 else TrialState.COMPLETE)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(drivers, "abc", strict=True)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = changes(reader, version)
        version = found.version
        known |= {row.number: row for row in found.rows}
    known |= {row.number: row for row in changes(reader, version).rows}
    assert [known[number] for number in sorted(known)] == study.trials()
    assert len(known) == 18


@pytest.mark.parametrize(("number", "where"), [("0", "trial 1"), ("1 - number", "trial 0")])
def test_a_row_with_another_number_than_its_job_is_refused(study, number, where):
    driver, jobs = study.driver(), study.jobs
    begun(driver, "a")
    begun(driver, "b")
    study.write(jobs.rows.tables["trials"].update().values(number=sql.literal_column(number)))
    with pytest.raises(Conflict) as caught:
        changes(jobs)
    assert (caught.value.code, caught.value.where) == ("damaged", where)
