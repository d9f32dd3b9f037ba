"""The body of the overhead benchmark, and what the command refuses. The comparison itself takes minutes: by hand."""

import pytest

from nas.bench.driver import STUDY, TrivialBody, compare
from nas.errors import UsageError
from nas.running.budget import End
from nas.settings.study_file import parse
from tests.running.tables import Launcher

pytestmark = pytest.mark.slow


def test_trivial_trials_are_trials_like_any_other(tmp_path, monkeypatch):
    launcher = Launcher(tmp_path, parse(STUDY))
    monkeypatch.setattr(launcher, "body", TrivialBody)
    assert launcher.run(budget=12).end is End.BUDGET
    assert all(row.values for row in launcher.rows())


@pytest.mark.parametrize("trials", [0, 10])
def test_too_few_trials_for_a_slope_are_refused(trials):
    with pytest.raises(UsageError, match="--trials"):
        compare(trials)
