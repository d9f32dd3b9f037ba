"""`nas list`."""

import json

import pytest

from nas.study import open_study, optuna_tables, store
from nas.study.listing import listing
from nas.study.standing import standing


def test_lists_the_studies(nas):
    ran = nas("list")
    assert ran.code == 0
    (row,) = ran.out.splitlines()[1:]
    assert row.split()[:5] == ["demo", "6", "of", "6", "3"]


def test_json_is_a_line_a_study_and_a_result(nas, driver):
    with driver:
        study, result = map(json.loads, nas("list", "--json").out.splitlines())
    assert (study["type"], study["study"], study["running"], study["trained"]) == ("study", "demo", True, 6)
    assert (result["type"], result["studies"]) == ("result", 1)


def test_a_study_that_cannot_be_read_is_listed_with_its_error(nas, tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_RUNS", str(tmp_path))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "study.db").write_text("this is no database, whatever its name says" * 100)
    ran = nas("list")
    assert ran.code == 0
    assert "broken" in ran.out
    assert "database" in " ".join(ran.out.split())
    assert "error" in json.loads(nas("list", "--json").out.splitlines()[0])


def test_no_study_yet(nas, tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_RUNS", str(tmp_path))
    ran = nas("list")
    assert (ran.code, ran.out) == (0, "")
    assert "nas search" in ran.err


@pytest.mark.parametrize(
    ("later", "changes"),
    [({}, False), ({"val_accuracy": 0.5}, False), ({"weights_mib": 1e9}, True), ({"params": 1e9}, True)],
    ids=str,
)
@pytest.mark.parametrize("known", [True, False], ids=["tables that are known", "tables of an unknown version"])
def test_a_list_counts_in_the_database_and_shows_what_status_shows(runs, monkeypatch, known, later, changes):
    whole = standing(open_study(runs / "demo"))
    first = open_study(runs / "demo")
    if later:
        writing = store.Store.open(store.sqlite_url(runs / "demo"))
        writing.set_attribute(f"remeasured:{whole['front'][0]}", later)
        writing.close()
    if not known:
        monkeypatch.setattr(optuna_tables, "KNOWN_SCHEMAS", set())
    study = open_study(runs / "demo")
    if known:
        monkeypatch.setattr(study.store, "rows", lambda: pytest.fail("a row was read whole"))
    listed = listing(study)
    assert listed == {key: standing(first)[key] for key in listed}
    assert (listed["front"] != whole["front"]) == changes
