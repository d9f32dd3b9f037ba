"""What a report costs grows with the number of trials, and not with its square: counted in calls, not in seconds."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from matplotlib.figure import Figure

from nas.report import figures, page, plots, remarks, tables
from nas.report.account import Account
from nas.report.effort import BoundCheck, Effort
from nas.report.health import health_of
from nas.report.ranking import rankings
from nas.report.summary import Summary
from nas.results import StudyRecord, TrialResult

pytestmark = pytest.mark.slow
FEW, MANY = 60, 240


def calls(work: Callable[[], Any]) -> int:
    """How many functions of Python or C are called meanwhile."""
    counted = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return counted


def larger(record: StudyRecord, count: int) -> StudyRecord:
    """The study's trials again and again, each a little other, one after the other as a serial search has them."""

    def again(number: int) -> TrialResult:
        trial = record.trials[number % len(record.trials)]
        lap = number // len(record.trials)
        metrics = {
            **trial.metrics,
            **{o.metric: v * (1 + 1e-3 * lap) for o in record.objectives if (v := trial.metrics.get(o.metric))},
        }
        return replace(trial, number=number, metrics=metrics, started=20.0 * number, finished=20.0 * number + 5)

    return replace(record, trials=tuple(map(again, range(count))), budget=count)


def written(record: StudyRecord) -> None:
    """All but figures and forests, whose trees grow as n log n and are few."""
    summary = Summary.of(record)
    account = Account(record, Effort.of(record), BoundCheck.of(record), tuple(rankings(record)), (), health_of(record))
    tables.to_frame(record)
    tables.front_rows(record)
    page.render(summary, account, [])
    remarks.remarks(summary)
    assert summary.history is not None


def test_the_page_and_the_tables(record):
    few, many = larger(record, FEW), larger(record, MANY)
    written(larger(record, 5))  # what is loaded and compiled once
    assert calls(lambda: written(many)) < 1.5 * MANY / FEW * calls(lambda: written(few))


@pytest.mark.parametrize("draw", ["learning", "pareto"])
def test_a_figure_of_many_trials_has_no_more_parts_than_one_of_few(record, draw, monkeypatch):
    monkeypatch.setattr(plots, "MOST_NAMES", 4)

    def parts(count: int) -> int:
        summary, axes = Summary.of(larger(record, count)), Figure().add_subplot()
        x, y = record.objectives[1], record.objectives[0]
        assert plots.learning_curves(axes, summary) if draw == "learning" else plots.pareto(axes, summary, x, y)
        return len(axes.get_children())

    assert parts(MANY) <= parts(FEW) + 1  # one name more


def test_a_large_front_is_named_in_part_with_its_knee(record, monkeypatch):
    monkeypatch.setattr(plots, "MOST_NAMES", 3)
    summary = Summary.of(record)
    chosen = [trial.number for trial in plots.named(summary)]
    front = [trial.number for trial in summary.front]
    assert {front[0], front[-1], summary.knee} <= set(chosen)
    assert 3 <= len(chosen) <= 4 < len(front)


def test_many_marks_become_one_picture(record, monkeypatch):
    summary = Summary.of(larger(record, FEW))

    def drawn() -> str:
        figure = Figure()
        plots.pareto(figure.add_subplot(), summary, record.objectives[1], record.objectives[0])
        return figures.svg_text(figure)

    shapes = drawn()
    monkeypatch.setattr(plots, "MOST_SHAPES", 10)
    picture = drawn()
    assert "<image" in picture
    assert "<image" not in shapes
    assert picture.count("<use") < shapes.count("<use")
