"""The driver that closes a study dies meanwhile: another one, which waits, takes that job over."""

import time
from contextlib import closing
from types import SimpleNamespace

import pytest

from nas.running import closing as closing_study
from nas.running import driver
from nas.running.budget import End
from nas.study.database import sqlite_url
from nas.study.drivers import GRACE_SECONDS
from nas.study.transactions import Database
from tests.running.aging import age
from tests.running.mortal import Killed
from tests.running.test_driver import SERIAL, tiny

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_search", "unmeasured")]


@pytest.mark.parametrize("when", ["measuring", "reporting"])
def test_another_driver_measures_and_reports_where_the_closing_one_dies(tmp_path, corpus, monkeypatch, when):
    file, folder = tiny(corpus, "search.trials=1"), tmp_path / "study"

    def die_measuring(event):
        if (when, event["type"]) == ("measuring", "remeasured"):
            raise Killed

    def die_reporting(study):
        raise Killed

    with monkeypatch.context() as dead:
        dead.setattr(driver, "leave", lambda leases: None)
        with pytest.raises(Killed):
            driver.run(file, folder, SERIAL, die_measuring, at_end=die_reporting)

    waits, reports = [], []

    def time_passes(seconds):
        waits.append(seconds)
        with closing(Database(sqlite_url(folder))) as database:
            age(database, 2 * GRACE_SECONDS, first)

    with closing(Database(sqlite_url(folder))) as database:
        first = database.read(lambda connection: connection.exec_driver_sql("SELECT driver FROM nas_drivers").scalar())
    monkeypatch.setattr(closing_study, "time", SimpleNamespace(sleep=time_passes, time=time.time))
    outcome = driver.run(file, folder, SERIAL, at_end=lambda study: reports.append(study.record().trained_count()))
    assert (outcome.end, outcome.closed) == (End.BUDGET, True)
    assert len(waits) == 1
    assert reports == [1]
    assert "remeasured:0" in outcome.study.store.attributes()


def test_a_driver_that_finds_the_study_closed_meanwhile_does_not_report_again(tmp_path, corpus, monkeypatch):
    file, folder, reports = tiny(corpus, "search.trials=1"), tmp_path / "study", []

    def another_is_faster(leases):
        opened(leases)
        driver.run(file, folder, SERIAL, at_end=lambda study: reports.append("another"))

    opened = closing_study.open_closing
    with monkeypatch.context() as patched:
        patched.setattr(closing_study, "open_closing", lambda leases: (patched.undo(), another_is_faster(leases)))
        outcome = driver.run(file, folder, SERIAL, at_end=lambda study: reports.append("this"))
    assert (outcome.end, outcome.closed) == (End.BUDGET, False)
    assert reports == ["another"]
