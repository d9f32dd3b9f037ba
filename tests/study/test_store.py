"""The rows, in a real SQLite file."""

import math
import sqlite3
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState

from nas.errors import Conflict, OutOfReach
from nas.reasons import Control
from nas.results import Constraint, Objective
from nas.study.store import Store, sqlite_url, to_result
from nas.study.study_jobs import StudyJobs
from nas.study.trial_rows import template

OBJECTIVES = (Objective("val_loss", "min"), Objective("val_accuracy", "max"))
ROW = {"architecture_id": "abc", "architecture": {"hidden": 8}, "attempt": 1, "proposed": 5.0}


@pytest.fixture
def store(tmp_path):
    store = Store.create(sqlite_url(tmp_path), "study", OBJECTIVES)
    yield store
    store.close()


def add(store: Store, state: TrialState = TrialState.RUNNING) -> int:
    row = template(state, {"x": 1}, {"x": optuna.distributions.CategoricalDistribution([1, 2])}, ROW, {})
    row.datetime_start = datetime.now() if state is TrialState.RUNNING else None
    return store.add_rows([row])[0]


def note(store: Store, number: int, key: str, value: object) -> None:
    """Sets an attribute of a row, as a driver does under its lease."""
    jobs, trial_id = StudyJobs(store.database, store.study_id), store.rows()[number]._trial_id
    store.database.write(lambda connection: jobs.trials.set_attributes(connection, trial_id, {key: value}))


def tell(store: Store, number: int, state: TrialState, values: list[float] | None, limits: dict[str, float]) -> None:
    """Ends a row, as a driver does under its lease."""
    jobs, trial_id = StudyJobs(store.database, store.study_id), store.rows()[number]._trial_id
    store.database.write(lambda connection: jobs.trials.finish(connection, trial_id, state, values, limits))


def test_a_row_is_written_whole_and_numbered_in_order(store):
    assert [add(store), add(store, TrialState.WAITING)] == [0, 1]
    first, second = store.rows()
    assert (first.state, second.state) == (TrialState.RUNNING, TrialState.WAITING)
    assert first.params == {"x": 1}
    assert first.user_attrs == ROW


def test_limits_are_read_back_by_optuna_and_values_stay_as_first_told(store, tmp_path):
    number = add(store)
    tell(store, number, TrialState.COMPLETE, [2.0, 0.5], {"weights_mib": 0.25})
    study = optuna.load_study(study_name="study", storage=sqlite_url(tmp_path))
    assert study.trials[0].values == [2.0, 0.5]
    assert study.trials[0].constraints == {"weights_mib": 0.25}
    assert [d.name for d in study.directions] == ["MINIMIZE", "MAXIMIZE"]


def test_a_result_shows_the_newest_measurement_held_against_the_limits(store):
    number = add(store)
    note(store, number, "metrics", {"val_loss": 2.0, "weights_mib": 5.0})
    tell(store, number, TrialState.COMPLETE, [2.0, 0.5], {"weights_mib": -0.5})
    limits = [Constraint("weights_mib", max=10)]
    row = store.rows()[0]
    assert to_result(row, limits, {}).feasible
    newer = to_result(row, limits, {"weights_mib": 20.0})
    assert (newer.metrics["val_loss"], newer.metrics["weights_mib"], newer.feasible) == (2.0, 20.0, False)


def test_a_result_tells_what_the_search_thought_of_the_trial_and_an_older_row_nothing(store):
    old, new = add(store), add(store)
    told = {"predicted": {"val_loss": 2.5}, "bound": [2.1, 0.7], "redraws": 3, "control": {"stop": 50}}
    for key, value in told.items():
        note(store, new, key, value)
    results = [to_result(row, [], {}) for row in store.rows()]
    assert (results[new].predicted, results[new].bound, results[new].redraws) == ({"val_loss": 2.5}, (2.1, 0.7), 3)
    assert (results[old].predicted, results[old].bound, results[old].redraws) == ({}, (), None)
    assert (results[new].control, results[old].control) == (Control(stop=50), Control())


def test_the_same_name_twice_and_a_missing_study_are_conflicts(store, tmp_path):
    with pytest.raises(Conflict, match="exists"):
        Store.create(sqlite_url(tmp_path), "study", OBJECTIVES)
    with pytest.raises(Conflict, match="no study 'other'"):
        Store.open(sqlite_url(tmp_path), "other")
    assert Store.open(sqlite_url(tmp_path)).name == "study"


def test_a_file_that_is_no_database_is_out_of_reach(tmp_path):
    (tmp_path / "study.db").write_text("this is not SQLite, and long enough to be sure of it" * 10)
    with pytest.raises(OutOfReach, match="not a database") as caught:
        Store.read(tmp_path / "study.db")
    assert "restore a copy" in caught.value.help


def test_a_database_with_a_damaged_page_is_told_from_a_full_disk(tmp_path):
    Store.create(sqlite_url(tmp_path), "study", OBJECTIVES).close()
    path = tmp_path / "study.db"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * 4096 * 3 + content[4096 * 4 :])
    with pytest.raises(OutOfReach, match="malformed") as caught:
        Store.read(tmp_path / "study.db")
    assert "restore a copy" in caught.value.help


def test_a_row_put_back_after_its_reason_was_written_does_not_keep_it(store):
    number = add(store)
    note(store, number, "reason", "nan")
    assert to_result(store.rows()[0], [], {}).reason == ""
    tell(store, number, TrialState.FAIL, None, {})
    assert to_result(store.rows()[0], [], {}).reason == "nan"


def test_attributes_of_the_study_are_kept(store, tmp_path):
    store.set_attribute("budget", 7)
    assert Store.open(sqlite_url(tmp_path)).attributes() == {"budget": 7}


DISTRIBUTIONS = {
    "kind": optuna.distributions.CategoricalDistribution(("softmax", "none", None, 3)),
    "steps": optuna.distributions.IntDistribution(1, 64, log=True),
    "rate": optuna.distributions.FloatDistribution(0.0, 1.0, step=0.25),
}


def finished_rows() -> list[optuna.trial.FrozenTrial]:
    """Of every finished state, with all that Optuna keeps of a trial."""
    create = optuna.trial.create_trial
    params = {"kind": None, "steps": 8, "rate": 0.75}
    attributes = {"text": "größer", "nested": {"a": [1, None, 2.5]}}
    system = {"constraints:params": -0.25}
    rows = [
        create(values=[1.5, -2.0], params=params, distributions=DISTRIBUTIONS, user_attrs=attributes),
        create(values=[math.inf, -math.inf], params={"kind": 3}, distributions={"kind": DISTRIBUTIONS["kind"]}),
        create(state=TrialState.PRUNED, system_attrs=system),
        create(state=TrialState.FAIL),
    ]
    rows[0].datetime_start = datetime.now() - timedelta(days=200)
    return rows


def stock(tmp_path) -> optuna.Study:
    return optuna.load_study(study_name="study", storage=sqlite_url(tmp_path))


def test_rows_are_read_and_written_as_optuna_does(store, tmp_path):
    made = finished_rows()
    assert store.add_rows(made) == [0, 1, 2, 3]
    assert [add(store), add(store, TrialState.WAITING)] == [4, 5]
    trials = stock(tmp_path).get_trials()
    assert store.rows() == trials
    for trial, row in zip(trials, made, strict=False):
        assert (trial.state, trial.values, trial.params, trial.distributions) == (
            row.state,
            row.values,
            row.params,
            row.distributions,
        )
        assert (trial.user_attrs, trial.constraints) == (row.user_attrs, row.constraints)
        assert (trial.datetime_start, trial.datetime_complete) == (row.datetime_start, row.datetime_complete)


def test_optuna_goes_on_with_a_study_that_was_written_here(store, tmp_path):
    store.add_rows(finished_rows())
    study = stock(tmp_path)
    trial = study.ask(DISTRIBUTIONS)
    study.tell(trial, [1.0, 2.0])
    assert (trial.number, store.rows()[4].values) == (4, [1.0, 2.0])
    assert add(store) == 5


def test_no_rows_are_no_change(store):
    assert store.add_rows([]) == []
    assert store.rows() == []


def test_studies_of_one_database_are_apart(store, tmp_path):
    other = Store.create(sqlite_url(tmp_path), "other", OBJECTIVES)
    for writer in (store, other, store, other):
        add(writer)
    tell(store, 0, TrialState.COMPLETE, [1.0, 2.0], {})
    assert [[row.number for row in s.rows()] for s in (store, other)] == [[0, 1], [0, 1]]
    assert [row.state.name for row in other.rows()] == ["RUNNING", "RUNNING"]


def test_what_another_process_writes_is_seen(store, tmp_path):
    first, second = add(store), add(store)
    assert [row.state.name for row in store.rows()] == ["RUNNING", "RUNNING"]
    other = Store.open(sqlite_url(tmp_path))
    other.rows()
    note(other, first, "reason", "skipped")
    tell(other, second, TrialState.COMPLETE, [1.0, 2.0], {"params": -1.0})
    add(other)
    told = store.rows()
    assert [row.state.name for row in told] == ["RUNNING", "COMPLETE", "RUNNING"]
    assert (told[0].user_attrs["reason"], told[1].values) == ("skipped", [1.0, 2.0])
    tell(other, first, TrialState.FAIL, None, {})
    assert store.row(first).state is TrialState.FAIL
    assert store.row(first) == store.rows()[first]


def test_finished_rows_are_read_once(store, tmp_path):
    done, open_ = add(store), add(store)
    tell(store, done, TrialState.COMPLETE, [1.0, 2.0], {})
    store.rows()
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("UPDATE trial_user_attributes SET value_json = '2' WHERE key = 'attempt'")
    assert [row.user_attrs["attempt"] for row in store.rows()] == [1, 2]
    assert [store.row(number).user_attrs["attempt"] for number in (done, open_)] == [1, 2]


def test_one_row_is_read_as_it_is_now(store):
    number = add(store, TrialState.WAITING)
    assert store.row(number).state is TrialState.WAITING
    note(store, number, "owner", "me")
    tell(store, number, TrialState.FAIL, None, {})
    assert (store.row(number).state, store.row(number).user_attrs["owner"]) == (TrialState.FAIL, "me")


def test_a_closed_study_is_one_file_and_opens_again(store, tmp_path):
    add(store)
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]
    assert add(store) == 1


def test_optuna_reads_what_was_told_here(store, tmp_path):
    number = add(store)
    note(store, number, "metrics", {"val_loss": 1.0})
    tell(store, number, TrialState.COMPLETE, [1.0, math.inf], {"weights_mib": 0.5})
    assert stock(tmp_path).get_trials() == store.rows()
