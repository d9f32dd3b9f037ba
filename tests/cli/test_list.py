"""`nas list`."""

import json


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
