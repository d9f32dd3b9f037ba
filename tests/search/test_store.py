"""The rows, in a real SQLite file."""

import optuna
import pytest
from optuna.trial import TrialState

from nas.errors import Conflict, OutOfReach
from nas.results import Constraint, Objective
from nas.search.store import Store, sqlite_url, to_result

OBJECTIVES = (Objective("val_loss", "min"), Objective("val_accuracy", "max"))
ROW = {"architecture_id": "abc", "architecture": {"hidden": 8}, "attempt": 1, "proposed": 5.0}


@pytest.fixture
def store(tmp_path):
    store = Store.create(sqlite_url(tmp_path), "study", OBJECTIVES)
    yield store
    store.close()


def add(store: Store, state: TrialState = TrialState.RUNNING) -> int:
    return store.add(state, {"x": 1}, {"x": optuna.distributions.CategoricalDistribution([1, 2])}, ROW, {})


def test_a_row_is_written_whole_and_numbered_in_order(store):
    assert [add(store), add(store, TrialState.WAITING)] == [0, 1]
    first, second = store.rows()
    assert (first.state, second.state) == (TrialState.RUNNING, TrialState.WAITING)
    assert first.params == {"x": 1}
    assert first.user_attrs == ROW


def test_a_waiting_row_is_claimed_once(store):
    number = add(store, TrialState.WAITING)
    assert store.claim(number)
    assert not store.claim(number)
    store.release(number)
    assert store.rows()[number].state is TrialState.WAITING


def test_limits_are_read_back_by_optuna_and_values_stay_as_first_told(store, tmp_path):
    number = add(store)
    store.tell(number, TrialState.COMPLETE, [2.0, 0.5], {"weights_mib": 0.25})
    store.tell(number, TrialState.FAIL, None, {})
    study = optuna.load_study(study_name="study", storage=sqlite_url(tmp_path))
    assert study.trials[0].values == [2.0, 0.5]
    assert study.trials[0].constraints == {"weights_mib": 0.25}
    assert [d.name for d in study.directions] == ["MINIMIZE", "MAXIMIZE"]


def test_a_result_shows_the_newest_measurement_held_against_the_limits(store):
    number = add(store)
    store.note(number, "metrics", {"val_loss": 2.0, "weights_mib": 5.0})
    store.tell(number, TrialState.COMPLETE, [2.0, 0.5], {"weights_mib": -0.5})
    limits = [Constraint("weights_mib", max=10)]
    row = store.rows()[0]
    assert to_result(row, limits, {}).feasible
    newer = to_result(row, limits, {"weights_mib": 20.0})
    assert (newer.metrics["val_loss"], newer.metrics["weights_mib"], newer.feasible) == (2.0, 20.0, False)


def test_the_same_name_twice_and_a_missing_study_are_conflicts(store, tmp_path):
    with pytest.raises(Conflict, match="exists"):
        Store.create(sqlite_url(tmp_path), "study", OBJECTIVES)
    with pytest.raises(Conflict, match="no study 'other'"):
        Store.open(sqlite_url(tmp_path), "other")
    assert Store.open(sqlite_url(tmp_path)).study.study_name == "study"


def test_a_database_without_a_study_gets_one(tmp_path):
    optuna.storages.RDBStorage(sqlite_url(tmp_path))
    with pytest.raises(Conflict, match="holds no study") as caught:
        Store.open(sqlite_url(tmp_path))
    assert "search again with its study file" in caught.value.help
    store = Store.only(sqlite_url(tmp_path), "study", OBJECTIVES)
    store.set_attribute("settings", {})
    assert Store.only(sqlite_url(tmp_path), "another", OBJECTIVES).study.study_name == "study"


def test_a_study_that_was_cut_short_while_it_was_made_is_made_anew(store, tmp_path):
    store.set_attribute("data", {})
    again = Store.only(sqlite_url(tmp_path), "study", OBJECTIVES[:1])
    assert len(again.study.directions) == 1
    assert again.attributes() == {}
    add(again)
    assert len(Store.only(sqlite_url(tmp_path), "study", OBJECTIVES).study.directions) == 1


def test_a_file_that_is_no_database_is_out_of_reach(tmp_path):
    (tmp_path / "study.db").write_text("this is not SQLite, and long enough to be sure of it" * 10)
    with pytest.raises(OutOfReach, match="not a database") as caught:
        Store.open(sqlite_url(tmp_path))
    assert "restore a copy" in caught.value.help


def test_a_database_with_a_damaged_page_is_told_from_a_full_disk(tmp_path):
    Store.create(sqlite_url(tmp_path), "study", OBJECTIVES).close()
    path = tmp_path / "study.db"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * 4096 * 3 + content[4096 * 4 :])
    with pytest.raises(OutOfReach, match="malformed") as caught:
        Store.open(sqlite_url(tmp_path))
    assert "restore a copy" in caught.value.help


def test_a_row_put_back_after_its_reason_was_written_does_not_keep_it(store):
    number = add(store)
    store.note(number, "reason", "nan")
    assert to_result(store.rows()[0], [], {}).reason == ""
    store.tell(number, TrialState.FAIL, None, {})
    assert to_result(store.rows()[0], [], {}).reason == "nan"


def test_attributes_of_the_study_are_kept(store, tmp_path):
    store.set_attribute("budget", 7)
    assert Store.open(sqlite_url(tmp_path)).attributes() == {"budget": 7}
