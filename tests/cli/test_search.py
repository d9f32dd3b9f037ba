"""The options of `nas search`, before anything runs."""

import pytest


@pytest.fixture
def study(settings, tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text(settings.to_toml())
    return path


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--cpus", "nan"), "--cpus must be above 0 and at most 10,000, got nan"),
        (("--cpus", "inf"), "--cpus must be above 0 and at most 10,000, got inf"),
        (("--gpus", "nan"), "--gpus must be above 0"),
        (("--cpus", "0"), "--cpus must be above 0"),
        (("--trials", "0"), "--trials must be above 0 and at most 1,000,000, got 0"),
        (("--max-fail-rate", "nan"), "--max-fail-rate must be from 0 to 1"),
        (("--time", "nan"), "expected a duration"),
        (("--executor", "dask"), "unknown executor 'dask'"),
        (("--study", ""), "name = '': a name is letters"),
    ],
)
def test_values_that_cannot_be_are_usage_errors(nas, study, tmp_path, options, told):
    before = sorted(tmp_path.rglob("*"))
    ran = nas("search", study, *options)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert sorted(tmp_path.rglob("*")) == before


FAILING = ("-s", "train.time_limit=1e-9", "-s", "space.hidden=[16]", "-s", "space.depth=[1]", "-s", "measure.repeats=1")


@pytest.mark.usefixtures("quick_search")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (
            ("--max-fail-rate", "1"),
            1,
            "error[all-failed]: no trial was trained to its end, and 8 trials failed (8 timeout)",
        ),
        (("--max-fail-rate", "0"), 6, "error[too-many-failures]: 5 trials failed (5 timeout)"),
    ],
)
def test_a_search_whose_trainings_all_fail_tells_the_failures(nas, study, tmp_path, monkeypatch, options, code, told):
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "runs"))
    ran = nas("search", study, "--executor", "serial", "--no-progress", *FAILING, *options)
    assert ran.code == code
    assert told in ran.err
    assert "nas resume demo --retry failed" in ran.err


def test_more_threads_than_cpus_are_refused(nas, study):
    ran = nas("check", study, "-s", "measure.threads=1000")
    assert ran.code == 2
    assert "measure.threads = 1000, but this process may use" in ran.err


@pytest.mark.parametrize("command", ["show", "status", "resume", "front", "report", "train", "generate", "stop"])
@pytest.mark.parametrize("name", ["x" * 300, "x" * 5000, "a/" * 3000, "nul\0"])
def test_a_name_that_no_disk_holds_is_no_study(nas, command, name):
    trial = ["0"] if command in ("show", "train", "generate") else []
    prompt = ["--prompt", "a"] if command == "generate" else []
    ran = nas(command, name, *trial, *prompt)
    assert (ran.code, "error[no-such-study]" in ran.err) == (2, True)
    assert len(ran.err) < 5000
