"""What the search did, as the page tells it and as search.json holds it."""

import json
from dataclasses import replace

import pytest

from nas import report
from nas.report.account import Account
from nas.results import Objective, State
from tests.report.confirmed_studies import confirmed
from tests.report.rows import stopped, study, trial

LOSS = Objective("val_loss", "min")


def guessed(record):
    """The study of the report's tests, as if a model had proposed it: right about the loss, but for one bound."""
    first = next(t.number for t in record.trials if t.state is State.COMPLETE)
    rows = []
    for row in record.trials:
        values = row.values(record.objectives)
        if values is None:
            rows.append(replace(row, redraws=1))
            continue
        expected = {o.metric: v * 1.1 for o, v in zip(record.objectives, values, strict=True)}
        bound = (values[0] + (0.1 if row.number == first else -0.1), *values[1:])
        rows.append(replace(row, predicted=expected, bound=bound, redraws=0))
    return replace(record, trials=tuple(rows))


@pytest.fixture(scope="module")
def written(record, tmp_path_factory):
    """The folder of that study's report."""
    return report.write(guessed(record), tmp_path_factory.mktemp("account") / "tiny_lm").parent


def text_of(folder):
    return " ".join((folder / "index.html").read_text(encoding="utf-8").split())


def test_the_page_tells_what_was_saved_and_how_well_it_was_guessed(record, written):
    html, rows = text_of(written), guessed(record).trials
    ended = [t for t in rows if t.state is State.PRUNED and t.rungs]
    complete = [t for t in rows if t.state is State.COMPLETE]
    saved = sum(1 - t.rungs[-1].step / 200 for t in ended)
    assert f"{len(ended)} of {record.trained_count()} trained trials ended early at a rung" in html
    assert f"which saved {saved:.1f} full trainings, or 11 s." in html
    assert "Measured, but never trained: 3 trials over a limit." in html
    assert f"{len(rows) - len(complete)} times the sampler drew an architecture that the study already had" in html
    assert f"The optimistic forecast was kept for {len(complete)} trials trained in full: 1 (5 %) ended better" in html
    assert "than it in the trained objective; at most 2 in 100 should." in html
    cells = ["val_<wbr>loss", "1.00", "falling", str(len(complete))]
    assert all(cell in html.split("ranked beforehand")[1].split("</table>")[0] for cell in cells)
    assert html.count("What decides ") == 2 * len(record.objectives)  # the caption, and the picture's name


def test_search_json_holds_the_same_numbers(record, written):
    data = json.loads((written / "search.json").read_text(encoding="utf-8"))
    assert data == Account.of(guessed(record)).data()
    assert set(data) == {"saved", "confirmed", "bounds", "ranking", "importance", "health"}
    assert data["saved"]["stopped"] == {"trials": 6, "trainings": 3.0, "seconds": pytest.approx(10.98752)}
    assert data["saved"]["infeasible"] == {"trials": 3}
    assert data["confirmed"] is None
    assert data["bounds"] == {"trials": 19, "missed": 1, "objectives": 1}
    assert data["ranking"][0]["predicted"] == {"spearman": pytest.approx(1.0), "trials": 19}
    assert data["ranking"][0]["params"]["spearman"] < 0
    for told in data["importance"]:
        assert sum(told["shares"].values()) == pytest.approx(1.0)
        assert set(told["shares"]) == {"hidden", "depth", "attention"}


def test_a_study_of_before_shows_what_it_has(record, page):
    html = text_of(page.parent)
    assert "ended early at a rung" in html
    assert "The optimistic forecast was kept" not in html
    assert "the sampler drew" not in html
    assert "ranked beforehand" not in html
    assert "What decides val_loss" in html


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], ""),
        ([trial(0, redraws=0)], "No architecture was drawn twice."),
        ([trial(0, redraws=1)], "1 time the sampler drew an architecture that the study already had, and drew again."),
        ([stopped(0, (100, 0.0))], "1 of 1 trained trial ended early at a rung, which saved 0.5 full trainings."),
        (
            [trial(0, State.PRUNED, reason="skipped"), trial(1, State.PRUNED, reason="infeasible:params")],
            "Measured, but never trained: "
            "1 trial since even the optimistic forecast was dominated and 1 trial over a limit.",
        ),
    ],
)
def test_what_was_saved_is_told_in_words(rows, said):
    assert Account.of(study(rows)).saved() == said


def test_that_stopping_was_on_and_stopped_nothing_is_told_once_something_is_trained():
    for stopping, rows, said in ((True, [trial(0)], "No trial was stopped at a rung."), (False, [trial(0)], "")):
        record = study(rows)
        record = replace(record, settings={**record.settings, "search": {"stopping": stopping}})
        assert Account.of(record).saved() == said


def test_what_cannot_be_said_is_told_in_words(tmp_path):
    few = [trial(i, params={"hidden": i}, metrics={"val_loss": 1.0 + i}, predicted={"val_loss": 1.0}) for i in range(5)]
    account = Account.of(study(few, [LOSS]))
    assert account.ranked() == [("val_loss", "too few trials", "too few trials", 5)]
    assert account.unsaid() == ["val_loss: too few trials (5 have a value, and 12 are needed)."]
    account.write(tmp_path)
    data = json.loads((tmp_path / "search.json").read_text(encoding="utf-8"))
    assert data["ranking"][0]["predicted"] == {"spearman": None, "trials": 5}
    assert data["importance"] == [{"metric": "val_loss", "trials": 5, "r2": None, "shares": {}}]


def test_names_of_choices_are_text_and_never_markup(tmp_path):
    attack = "<script>alert(1)</script>"
    rows = [trial(i, params={attack: i}, metrics={"val_loss": 1.0 + i, "params": 1.0}) for i in range(20)]
    html = text_of(report.write(study(rows, [LOSS]), tmp_path / "rows").parent)
    assert "What decides val_loss" in html
    assert attack not in html


def test_search_json_tells_how_sure_a_confirmed_front_is(record):
    told = Account.of(confirmed(record)).data()["confirmed"]
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert set(told["rank_correlation"]) == set(told["selection_bias"]) == set(told["test_drop"]) == {"val_loss"}
    assert told["selection_bias"]["val_loss"]["mean"] == pytest.approx(-0.02, abs=0.01)
    assert told["hypervolume"]["low"] < told["hypervolume"]["high"] < told["searched_hypervolume"]
    assert {member["trial"] for member in told["members"]} == {n for group in told["groups"] for n in group}
    assert (told["steps"], told["compared"]) == (200, 3)
