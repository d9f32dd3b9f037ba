"""`nas status`."""

import json

import pytest

from nas.cli import status


def test_tells_states_with_reasons_budget_front_and_best(nas):
    ran = nas("status", "demo")
    assert ran.code == 0
    assert "not running" in ran.out
    assert "6 of 6 trials" in ran.out
    assert "infeasible:params" in ran.out
    assert "nan" in ran.out
    assert "decode_ms_per_token" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80


def test_json_is_one_result(nas):
    (line,) = nas("status", "demo", "--json").out.splitlines()
    now = json.loads(line)
    assert (now["v"], now["type"], now["study"], now["running"]) == (1, "result", "demo", False)
    assert (now["trained"], now["budget"]) == (6, 6)
    assert now["states"]["COMPLETE"] == {"": 6}
    assert now["states"]["FAIL"] == {"nan": 1}
    assert {row["trial"] for row in now["best"]} <= set(now["front"])
    assert next(row for row in now["best"] if row["metric"] == "weights_mib")["value"] == 0.016


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_watch_ends_with_the_search(nas, driver, monkeypatch, options):
    driver.acquire()
    sleeps = []

    def sleep(seconds: float) -> None:
        if seconds < 1:  # within one look at the lock
            return
        sleeps.append(seconds)
        if len(sleeps) == 2:
            driver.release()

    monkeypatch.setattr(status.time, "sleep", sleep)
    ran = nas("status", "demo", "--watch", *options)
    assert (ran.code, sleeps) == (0, [2.0, 2.0])
    if options:
        lines = [json.loads(line) for line in ran.out.splitlines()]
        assert [(line["type"], line["running"]) for line in lines] == [("status", True)] * 2 + [("result", False)]
    else:
        assert "not running" in ran.out


def test_watch_ends_with_ctrl_c(nas, driver, monkeypatch):
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", interrupt)
    with driver:
        assert nas("status", "demo", "--watch").code == 130


def test_unknown_study_names_the_nearest(nas):
    ran = nas("status", "dmo")
    assert (ran.code, ran.out) == (2, "")
    assert "error[no-such-study]" in ran.err
    assert "did you mean 'demo'?" in ran.err


def test_takes_the_path_of_a_folder(nas, stored):
    assert "6 of 6 trials" in nas("status", stored / "demo").out


def test_a_study_without_trials_is_told_in_words(nas, tmp_path, settings, monkeypatch, make_study):
    make_study(tmp_path / "empty", settings, trials=0)
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "empty"))
    ran = nas("status", "demo")
    assert ran.code == 0
    assert "0 of 6 trials" in ran.out
    assert "no trial yet" in ran.out
