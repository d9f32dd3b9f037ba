"""Databases that are busy, restart, hang, lose an answer, or have defaults of their own."""

import pickle
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace

import pytest
import sqlalchemy as sql

from nas.errors import OutOfReach, UsageError
from nas.study.drivers import Drivers, StopRequest
from nas.study.job_answers import Answer, Origin
from nas.study.job_claims import JobClaims
from nas.study.job_preparation import prepare
from nas.study.job_tables import DRIVERS, STUDIES, Phase
from nas.study.leases import Leases
from nas.study.transactions import Database
from tests.study.proxy import Proxy
from tests.study.shared_study import FOREVER, begun, new, told


@pytest.fixture
def proxy(server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def behind(postgres_study, server, proxy) -> Leases:
    """A driver whose answers get lost when asked for."""
    return postgres_study.driver(url=postgres_study.url.replace(str(server.port), str(proxy.port)))


def test_a_lost_answer_changes_nothing_whatever_was_asked(postgres_study, behind, proxy):
    def losing(call):
        before, proxy.cut = proxy.cuts, 1
        answer = call()
        assert proxy.cuts == before + 1
        return answer

    driver = behind
    registered = losing(lambda: Drivers(driver.jobs).register())
    assert registered.ordinal == 1
    assert losing(lambda: driver.enqueue(new("w"))) == (0, True)
    waiting = losing(lambda: driver.acquire("1"))
    assert (waiting.number, waiting.attempt, waiting.origin) == (0, 1, Origin.AGAIN)
    lease = losing(lambda: driver.acquire("2", new("a")))
    assert (lease.number, lease.attempt, lease.origin) == (1, 1, Origin.AGAIN)
    losing(lambda: driver.note(lease, {"metrics": {"params": 1.0}}))
    losing(lambda: driver.rung(lease, 10, "rung-10.a1", {}))
    assert not losing(lambda: told(driver, lease))  # it was told already: the first time
    assert not losing(lambda: driver.release(waiting))
    assert losing(lambda: driver.set_budget(200)) == 200
    assert losing(lambda: Drivers(driver.jobs).beat(registered)) is StopRequest.GO
    assert losing(lambda: Drivers(driver.jobs).request_stop(StopRequest.NOW, registered.id)) == [registered.id]
    assert losing(lambda: prepare(driver.jobs, 5)) == 0
    assert (driver.acquire("3").number, driver.acquire("4", new("b")).number) == (0, 2)
    losing(driver.leave)
    other = postgres_study.driver(grace=FOREVER)
    taken = [other.acquire(nonce) for nonce in "56"]
    assert [(lease.number, lease.attempt) for lease in taken] == [(0, 3), (2, 2)]
    assert [trial.number for trial in postgres_study.trials()] == [0, 1, 2]
    assert postgres_study.table(STUDIES)[0]["trained"] == 1
    assert len(postgres_study.table(DRIVERS)) == 3


def test_a_lost_answer_to_a_take_over_changes_nothing(postgres_study, behind, proxy):
    dead = postgres_study.driver()
    begun(dead, "a")
    dead.jobs.database.write(lambda c: c.execute(DRIVERS.update().values(heartbeat=0.0)))
    behind._claims.grace = 60.0
    proxy.cut = 1
    taken = behind.acquire("n")
    assert (taken.number, taken.attempt, proxy.cuts) == (0, 2, 1)
    assert told(behind, taken)


def test_a_server_that_hangs_is_given_up_and_asked_again(postgres_study, server):
    driver = postgres_study.driver()
    lease, watchdog = begun(driver, "a"), driver.jobs.database.watchdog
    with server.frozen():
        usual, watchdog.seconds = watchdog.seconds, 0.1
        thread = threading.Thread(target=driver.note, args=(lease, {"slot": 1}))
        thread.start()
        while not driver.jobs.database.retries:
            thread.join(0.02)
            assert thread.is_alive()
        watchdog.seconds = usual
    thread.join()
    assert postgres_study.trials()[0].user_attrs["slot"] == 1


def test_a_server_that_restarts_is_asked_again(postgres_study, server):
    driver = postgres_study.driver()
    lease = begun(driver, "a")
    inside, again = threading.Event(), list[int]()

    def body(connection):
        again.append(1)
        connection.execute(sql.select(STUDIES))
        if len(again) == 1:
            server.stop()
            server.start()
        connection.execute(sql.select(STUDIES))
        inside.set()

    driver.jobs.database.write(body)
    assert len(again) == 2
    server.stop()
    server.start()
    assert told(driver, lease)
    assert driver.jobs.database.retries


def test_a_server_whose_default_is_repeatable_read_and_whose_clock_is_elsewhere_gives_the_same(postgres_study):
    options = "-c default_transaction_isolation=repeatable\\ read -c timezone=Asia/Tokyo"
    url = sql.make_url(postgres_study.url).update_query_dict({"options": options}).render_as_string(False)
    drivers = [postgres_study.driver(url=url) for _ in range(3)]
    asked = sql.text("SELECT current_setting('default_transaction_isolation'), current_setting('timezone')")
    assert drivers[0].jobs.database.write(lambda c: tuple(c.execute(asked).one())) == ("repeatable read", "Asia/Tokyo")

    def work(driver: Leases, name: str) -> None:
        for i in range(5):
            told(driver, begun(driver, f"{name}{i}"))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(drivers, "abc", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trials = postgres_study.trials()
    assert [trial.number for trial in trials] == [*range(15)]
    for trial in trials:  # Optuna stores UTC and shows local time
        assert trial.datetime_start.timestamp() == pytest.approx(trial.user_attrs["attempts"][0][0], abs=60)
        assert trial.datetime_complete >= trial.datetime_start
    assert not drivers[0].jobs.database.retries


def test_a_clients_clock_counts_for_nothing(study, monkeypatch):
    driver = study.driver()
    monkeypatch.setattr("time.time", lambda: 1e6)
    other = study.driver(grace=3600.0)
    told(driver, begun(driver, "a"))
    assert other.acquire("n") is Answer.PROPOSE
    assert study.trials()[0].user_attrs["attempts"][0][0] > 1e9


def test_of_two_that_take_over_at_once_one_gets_the_job(study):
    dead = study.driver()
    begun(dead, "a")
    others = [study.driver(grace=0.0) for _ in range(3)]
    for other in others:
        other._claims.grace = FOREVER
    dead.jobs.database.write(lambda c: c.execute(DRIVERS.update().values(ended=1.0).where(of(dead))))
    start, found = threading.Barrier(3), []

    def run(driver: Leases) -> None:
        start.wait(20)
        found.append(driver.acquire("n" + driver.driver.id[:8]))

    threads = [threading.Thread(target=run, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer for answer in found if answer is not Answer.PROPOSE] == [
        answer for answer in found if getattr(answer, "attempt", 0) == 2
    ]
    assert found.count(Answer.PROPOSE) == 2


def test_a_trial_that_is_told_while_another_takes_it_over_is_not_taken(postgres_study, monkeypatch):
    """The look of the one who takes over comes before the COMMIT of the last result, and its claim after it."""
    slow, other = postgres_study.driver(), postgres_study.driver(grace=0.0)
    lease = begun(slow, "a")
    looked, real = list[int](), JobClaims._claim

    def claim(self, connection, job_id, *further):
        if job_id is not None and not looked:
            looked.append(job_id)
            told(slow, lease)
        return real(self, connection, job_id, *further)

    monkeypatch.setattr(JobClaims, "_claim", claim)
    assert other.acquire("n") is Answer.PROPOSE
    assert looked == [lease.job_id]
    (job,) = postgres_study.table()
    assert (job["phase"], job["attempt"]) == (Phase.TRAINED, 1)


def test_a_take_over_waits_for_a_result_that_is_being_told(postgres_study):
    slow, other = postgres_study.driver(), postgres_study.driver(grace=0.0)
    lease = begun(slow, "a")
    held, go_on = threading.Event(), threading.Event()
    finish = slow.jobs.trials.finish

    def slowly(*arguments):
        held.set()
        assert go_on.wait(20)
        finish(*arguments)

    slow.jobs.trials.finish = slowly
    telling = threading.Thread(target=told, args=(slow, lease))
    telling.start()
    assert held.wait(20)
    found = []
    taking = threading.Thread(target=lambda: found.append(other.acquire("n")))
    taking.start()
    wanted = sql.text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%nas_jobs%'"
    )
    database = postgres_study.database()
    while not database.read(lambda c: c.execute(wanted).scalar()):
        taking.join(0.01)
        assert taking.is_alive()
    go_on.set()
    telling.join()
    taking.join()
    assert found == [Answer.PROPOSE]
    assert postgres_study.table()[0]["phase"] == Phase.TRAINED


def test_a_busy_sqlite_file_is_waited_for_and_a_damaged_one_is_not(sqlite_study, tmp_path):
    driver = sqlite_study.driver()
    with closing(sqlite3.connect(tmp_path / "study.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=begun, args=(driver, "a"))
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        other.execute("COMMIT")
        thread.join()
    (tmp_path / "no.db").write_bytes(b"this is not SQLite, and long enough to be sure of it" * 100)
    broken = sqlite_study.database(f"sqlite:///{tmp_path / 'no.db'}")
    with pytest.raises(OutOfReach, match="not a database") as caught:
        broken.write(lambda connection: connection.execute(sql.select(STUDIES)))
    assert "restore a copy" in caught.value.help


SECRET = "s3cr=t@{x}"


@pytest.mark.parametrize("host", ["127.0.0.1:1", "127.0.0.1:PORT"])
def test_a_server_that_is_not_there_or_refuses_is_told_at_once_and_without_the_password(host, server, caplog):
    url = sql.URL.create("postgresql", "nobody", SECRET, "127.0.0.1", database="none")
    url = url.set(port=server.port if "PORT" in host else 1)
    with closing(Database(url.render_as_string(hide_password=False))) as database:
        with pytest.raises(OutOfReach, match="does not answer") as caught:
            database.check()
        shown = [repr(database), str(database), caught.value.render(), repr(caught.value.__cause__), caplog.text]
        shown += [repr(database.engine), str(caught.value.__cause__)]
        assert not [text for text in shown if SECRET in text or "s3cr" in text]
        assert str(url.port) in shown[0]
        with pytest.raises(TypeError, match="stays with its driver"):
            pickle.dumps(database)


@pytest.mark.parametrize("url", ["mysql://a:s3cr@b/c", "nonsense", "", "postgresql://u:s3cr@h:port/d"])
def test_another_kind_of_database_is_refused_without_showing_its_address(url):
    with pytest.raises(UsageError, match=r"PostgreSQL|address") as caught:
        Database(url)
    assert "s3cr" not in caught.value.render()


def test_patience_ends_after_pauses_that_grow(monkeypatch):
    pauses = list[float]()
    clock = SimpleNamespace(monotonic=lambda: sum(pauses), sleep=pauses.append)
    monkeypatch.setattr("nas.study.transactions.time", clock)
    with closing(Database("postgresql://nobody@127.0.0.1:1/none", patience=20.0)) as database:
        with pytest.raises(OutOfReach, match="does not answer"):
            database.write(lambda connection: None)
        assert database.retries.total() == len(pauses) + 1
    assert 15 < sum(pauses) < 21
    assert pauses[0] < 0.05
    assert 0.9 < max(pauses) < 3.1


def of(driver: Leases) -> sql.ColumnElement[bool]:
    return DRIVERS.c.driver == driver.driver.id
