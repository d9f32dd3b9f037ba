"""Confirmations through the driver: at the end of a search, with an own body, by several drivers, in PostgreSQL."""

import threading
from contextlib import closing
from dataclasses import replace

import pytest

from nas.body import Finished, Job, Measured, Reached
from nas.errors import Conflict
from nas.results import State
from nas.running import confirming, driver
from nas.running.budget import End
from nas.running.confirmation_session import Wish
from nas.running.launch import Launch
from nas.settings import study_file
from nas.study import open_study
from nas.study.database_place import database_place
from nas.study.job_tables import Kind
from nas.study.standing import standing
from nas.study.transactions import Database
from nas.study.whole_study import jobs_of
from tests.own_study import METRICS
from tests.study import postgres

pytestmark = pytest.mark.slow
TEXT = (
    """
name = "own"
[space.parameters]
width = { low = 1, high = 64, log = true }
"""
    + METRICS
    + """
[train]
steps = 8
[search]
trials = 4
stopping = false
skip = false
"""
)
SERIAL = Launch(executor="serial")
WISH = Wish(seeds=2, most=3)


def file(*overrides: str):
    return study_file.parse(TEXT, overrides)


def noisy(job: Job):
    """A closed-form training whose end depends on the seed by a little."""
    width = job.parameters["width"]
    yield Measured({"size": float(width)})
    for step in job.rungs:
        yield Reached(step, {"error": 1 / width + 1 / step})
    yield Finished({"error": 1 / width + job.seed % 100 / 10_000})


def searched(folder, *overrides: str, **options):
    return driver.run(file(*overrides), folder, SERIAL, body=noisy, **options)


def rows(study):
    return {
        n: [(r.seed, dict(r.metrics), r.reason) for r in c.retrainings] for n, c in study.record().confirmed.items()
    }


def test_a_body_of_ones_own_is_confirmed_with_the_body_and_refused_without(tmp_path):
    folder = tmp_path / "own"
    study = searched(folder).study
    with pytest.raises(Conflict, match="has a body of its own") as refused:
        confirming.run(open_study(folder), WISH, SERIAL)
    assert "confirm(body=...)" in refused.value.help
    ended = confirming.run(open_study(folder), WISH, SERIAL, body=noisy)
    assert ended.end
    assert ended.closed
    found = open_study(folder).record().confirmed
    for number, each in found.items():
        width = study.trial(number).parameters["width"]
        assert all(r.metrics["error"] == 1 / width + r.seed % 100 / 10_000 for r in each.retrainings)
        assert all((r.metrics["size"], dict(r.test)) == (width, {}) for r in each.retrainings)
        assert not each.blocks
    assert {t.number for t in study.front()} <= set(found)
    assert len({r.seed for each in found.values() for r in each.retrainings}) <= 3


def test_a_search_confirms_its_front_at_its_end_and_reports_once_more(tmp_path):
    reported = []
    outcome = searched(
        tmp_path / "own", "search.confirm=2", at_end=lambda study: reported.append(len(study.record().confirmed))
    )
    record = outcome.study.record()
    assert (outcome.closed, outcome.unconfirmed) == (True, False)
    assert record.confirmed
    assert all(len(each.retrainings) >= 2 for each in record.confirmed.values())
    assert reported == [0, len(record.confirmed)]
    assert record.trained_count() == record.budget == 4
    again = searched(tmp_path / "own", "search.confirm=2", at_end=lambda study: reported.append(-1))
    assert rows(again.study) == rows(outcome.study)
    assert searched(tmp_path / "off").study.record().confirmed == {}


def test_a_search_stopped_while_it_confirms_goes_on_to_the_same_rows(tmp_path):
    expected = rows(searched(tmp_path / "whole" / "own", "search.confirm=2").study)
    ended = [0]

    def observer(event):
        ended[0] += event["type"] == "confirmation" and event["what"] == "ended"

    folder = tmp_path / "own"
    first = searched(folder, "search.confirm=2", observer=observer, should_stop=lambda: ended[0] == 1)
    assert ended == [1]
    assert (first.end, first.unconfirmed) == (End.BUDGET, True)
    assert sum(map(len, rows(first.study).values())) == 1
    assert rows(searched(folder, "search.confirm=2").study) == expected


def test_a_study_may_begin_to_confirm_when_its_file_changes_and_keeps_it(tmp_path):
    folder = tmp_path / "own"
    searched(folder)
    assert searched(folder, "search.confirm=1").study.record().confirmed
    assert open_study(folder).file.search.confirm == 1


def test_failures_of_a_body_are_results_too(tmp_path):
    folder = tmp_path / "own"
    best = searched(folder).study.front()[0].number

    def breaks(job: Job):
        if job.number == best:
            raise ValueError("not with this seed")
        yield from noisy(job)

    confirming.run(open_study(folder), WISH, SERIAL, body=breaks)
    found = open_study(folder).record().confirmed
    assert [r.reason for r in found[best].retrainings] == ["error", "error"]
    assert all(not r.failed for n, each in found.items() if n != best for r in each.retrainings)


def test_a_budget_begins_no_seed_that_it_has_no_time_for(tmp_path, monkeypatch):
    """Each training is taken to last so long that the second look of the race would begin too late."""

    def noise(job: Job):
        yield Measured({"size": float(job.parameters["width"])})
        yield Finished({"error": job.seed * (job.parameters["width"] + 3) % 1009 / 1009})

    folder = tmp_path / "own"
    searched(folder)
    monkeypatch.setattr("nas.running.confirmation_session.training_seconds", lambda *_: 0.0)
    monkeypatch.setattr("nas.running.confirmation_jobs.training_seconds", lambda *_: 1e6)
    stored = open_study(folder)
    ended = confirming.run(stored, Wish(seeds=3, most=8), replace(SERIAL, seconds=1e5), body=noise)
    assert str(ended.end) == "the budget leaves no time for further seeds"
    assert {len(each.retrainings) for each in stored.record().confirmed.values()} == {3}
    more = confirming.run(stored, Wish(seeds=3, most=8), SERIAL, body=noise)
    assert max(len(each.retrainings) for each in stored.record().confirmed.values()) > 3
    assert str(more.end).startswith("every member has its seeds")


def together(study, launches=2, **options):
    """Confirms by several drivers at once, in threads. Returns how each of them ended."""
    ended = []

    def confirm():
        ended.append(confirming.run(open_study(study.folder), WISH, SERIAL, body=noisy, **options))

    threads = [threading.Thread(target=confirm) for _ in range(launches)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ended) == launches
    return ended


def test_drivers_that_confirm_together_do_nothing_twice(tmp_path):
    folder = tmp_path / "own"
    expected = rows(searched(tmp_path / "alone" / "own", "search.confirm=2").study)
    study = searched(folder).study
    ended = together(study)
    assert all(each.end for each in ended)
    found = open_study(folder)
    alone = open_study(tmp_path / "alone" / "own")
    assert {n: each[:2] for n, each in rows(found).items()} == {n: each[:2] for n, each in expected.items()}
    jobs = [job for job in jobs_of(found.store) if job["kind"] == Kind.CONFIRMATION]
    assert all(job["attempt"] == 1 for job in jobs)
    assert alone.record().confirmed.keys() == found.record().confirmed.keys()


def test_status_tells_where_a_confirmation_stands(tmp_path):
    study = searched(tmp_path / "own").study
    assert standing(study)["confirmation"] is None
    confirming.run(open_study(tmp_path / "own"), Wish(1, 1), SERIAL, body=noisy)
    now = standing(open_study(tmp_path / "own"))["confirmation"]
    members = len(study.record().confirmed) or len(open_study(tmp_path / "own").record().confirmed)
    assert now == {
        "members": members,
        "trained": members,
        "failed": 0,
        "measured": 0,
        "tested": 0,
        "running": 0,
        "drivers": 0,
    }


def test_a_study_in_postgresql_is_confirmed_and_goes_on_after_a_stop(tmp_path):
    with postgres.running() as server:
        server.execute("CREATE DATABASE confirmed")
        url = server.url("confirmed")
        place = database_place(url.replace("+psycopg", ""))
        folder = tmp_path / "own"
        with closing(Database(place)) as database:
            searched(folder, database=database)
            told = []

            def stop() -> bool:
                return sum(event["type"] == "confirmation" for event in told) > 2

            first = confirming.run(open_study(folder, place), WISH, SERIAL, told.append, noisy, database, stop)
            assert first.end is None
            ended = confirming.run(open_study(folder, place), WISH, SERIAL, body=noisy, database=database)
        record = open_study(folder, place).record()
        assert ended.end
        assert all(len(each.retrainings) >= 2 for each in record.confirmed.values())
        assert all(trial.state is State.COMPLETE for trial in record.trials)
