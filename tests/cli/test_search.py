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
        (("--trials", "0"), "--trials must be above 0, got 0"),
        (("--max-fail-rate", "nan"), "a share from 0 to 1"),
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
