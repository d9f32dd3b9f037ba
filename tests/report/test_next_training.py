"""The training that a report proposes: longer than the search's, at the trial's own pace."""

from dataclasses import replace

import pytest

from nas.report.next_training import NextTraining
from nas.results import Rung
from tests.report.rows import trial

SETTINGS = {"train": {"steps": 200}}


def after(seconds: float):
    return trial(12, rungs=(Rung(100, seconds / 2, {}), Rung(200, seconds, {})))


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [
        (4.0, "Train this architecture for 2,000 steps (about 40 s)"),
        (0.001, "Train this architecture for 2,000 steps (about 1.0 s)"),
        (91.3, "Train this architecture for 2,000 steps (about 15 min)"),
        (7000.0, "Train this architecture for 2,000 steps (about 19 h 30 min)"),
    ],
)
def test_what_it_does_and_how_long_it_takes(seconds, sentence):
    assert str(NextTraining.of(after(seconds), SETTINGS)) == sentence


def test_the_command_says_the_steps():
    assert NextTraining.of(after(4.0), SETTINGS).command("'my study'") == "nas train 'my study' 12 --steps 2000"


def test_without_a_rung_nobody_knows_how_long():
    assert str(NextTraining.of(trial(3), SETTINGS)) == "Train this architecture for 2,000 steps"


def test_nothing_is_proposed_where_the_command_refuses():
    assert NextTraining.of(after(4.0), {}) is None
    assert NextTraining.of(after(4.0), SETTINGS | {"trial": {"body": "mine:train"}}) is None
    assert NextTraining.of(replace(after(4.0), architecture={}), SETTINGS) is None
