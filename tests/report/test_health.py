"""A search that checks itself: each check on rows whose answer is known, and on too few of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr

from nas import report
from nas.reasons import Control
from nas.report.health import health_of
from nas.report.health.check import rank_interval, share_interval
from nas.report.health.edges import values_offered
from nas.report.health.growth import doubled
from nas.report.health.ranks import within_classes
from nas.results import Objective, Rung
from tests.report.rows import study, trial

LOSS, SIZE = Objective("val_loss", "min"), Objective("params", "min")
BOTH = (LOSS, SIZE)


def complete(number, loss, params=100.0, **facts):
    return trial(number, metrics={"val_loss": loss, "params": params}, finished=float(number), **facts)


def check(name, rows, objectives=BOTH, **facts):
    record = study(rows, objectives)
    return health_of(replace(record, **facts))[name]


def test_with_nothing_trained_every_verdict_is_unknown():
    assert {each.verdict for each in health_of(study([], BOTH))} == {"unknown"}


@pytest.mark.parametrize(("ended", "verdict"), [(0, "unknown"), (9, "unknown"), (10, "ok")])
def test_stopping_is_well_only_where_enough_controls_would_have_been_stopped_and_none_is_on_the_front(ended, verdict):
    rows = [complete(0, 1.0, 1.0), *(complete(i, 2.0, 5.0, control=Control(stop=50)) for i in range(1, 1 + ended))]
    found = check("stopping", [*rows, complete(40, 2.0, 5.0, control=Control(stop=0)), complete(41, 3.0)])
    assert (found.verdict, found.numbers) == (verdict, {"controls": ended + 1, "ended": ended, "on_front": []})


def test_a_member_of_the_front_that_would_have_been_stopped_is_named():
    rows = [complete(0, 1.5, 1.0), complete(9, 1.0, 5.0, control=Control(stop=50))]
    found = check("stopping", rows)
    assert (found.verdict, found.numbers["on_front"]) == ("look", [9])
    assert "trial 9 is on the front" in found.text
    off = check("stopping", rows, settings={"search": {"stopping": False}})
    assert (off.verdict, off.text) == ("unknown", "Stopping at rungs was switched off.")


@pytest.mark.parametrize(
    ("bounds", "wrong", "verdict"),
    [(14, 0, "unknown"), (14, 3, "look"), (15, 2, "look"), (60, 1, "ok"), (60, 5, "look")],
)
def test_bounds_are_held_against_their_promise(bounds, wrong, verdict):
    rows = [complete(i, 2.0 + i, bound=(2.0 + i + (0.1 if i < wrong else -0.1), 100.0)) for i in range(bounds)]
    found = check("skipping", rows)
    assert (found.verdict, found.numbers["bounds"], found.numbers["wrong"]) == (verdict, bounds, wrong)


def test_a_trial_that_would_have_been_skipped_and_is_on_the_front_is_named():
    control = complete(9, 1.0, 5.0, bound=(0.9, 5.0), control=Control(skip=True))
    found = check("skipping", [complete(0, 1.5, 1.0), control])
    assert (found.verdict, found.numbers["controls"], found.numbers["on_front"]) == ("look", 1, [9])


def test_predictions_that_know_the_size_alone_are_told_from_those_that_know_more():
    generator = np.random.default_rng(0)
    size = np.repeat([1.0, 10.0, 100.0], 20) * (1 + 0.01 * generator.random(60))
    rest = generator.permuted(np.linspace(-0.3, 0.3, 60))
    truth = 5 - np.log(size) + rest
    verdicts = {}
    for name, guess in (("size", 5 - np.log(size) + 0.1 * generator.random(60)), ("more", truth + 0.01 * rest[::-1])):
        rows = [
            complete(i, float(t), float(s), predicted={"val_loss": float(g), "params": float(s)})
            for i, (t, s, g) in enumerate(zip(truth, size, guess, strict=True))
        ]
        found = check("predictions", rows)
        verdicts[name] = found.verdict
        assert found.numbers["objectives"][0]["model"]["spearman"] > 0.8
    assert verdicts == {"size": "look", "more": "ok"}
    assert check("predictions", rows[:7]).verdict == "unknown"


def test_the_correlation_within_classes_is_that_of_plain_loops():
    generator = np.random.default_rng(1)
    guess, truth, size = generator.normal(size=(3, 12))
    order = np.argsort(size)
    ranks = []
    for members in (order[:4], order[4:8], order[8:]):
        for i in members:
            below = [sum(each[j] < each[i] for j in members) - 1.5 for each in (guess, truth)]
            ranks.append(below)
    a, b = np.array(ranks).T
    rho, classes = within_classes(guess, truth, size)
    assert (rho, classes) == (pytest.approx((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())), 3)


@pytest.mark.parametrize(("noise", "verdict"), [(0.0, "ok"), (30.0, "look")])
def test_rungs_are_held_against_the_end(noise, verdict):
    generator = np.random.default_rng(2)
    rows = []
    for i in range(160):
        first = 2.0 + i / 160 + noise * generator.random()
        rungs = tuple(Rung(step, 1.0, {"val_loss": value}) for step, value in ((50, first), (200, 1.0 + i / 160)))
        rows.append(complete(i, 1.0 + i / 160, rungs=rungs))
    found = check("rungs", rows)
    assert (found.verdict, found.numbers["rungs"][0]["step"]) == (verdict, 50)
    few = check("rungs", rows[:7])
    assert (few.verdict, "7 trials" in few.text) == ("unknown", True)


SPACE = {"parameters": {"width": [8, 16, 32], "kind": ["a", "b"], "depth": {"low": 1, "high": 4}}}


def at_the_edge(width):
    """Twelve trials, of which those with that width have the lowest loss."""
    for i in range(12):
        chosen = (8, 16, 32)[i % 3]
        params = {"width": chosen, "kind": "a", "depth": 1 + i % 4}
        yield replace(complete(i, 2.0 + (chosen != width) + i / 100), params=params)


@pytest.mark.parametrize(("width", "edge"), [(32, "largest"), (8, "smallest"), (16, None)])
def test_a_best_value_at_the_edge_of_the_space_is_named(width, edge):
    found = check("edges", list(at_the_edge(width)), settings={"space": SPACE})
    assert [each["edge"] for each in found.numbers["edges"]] == ([edge] if edge else [])
    assert found.verdict == ("look" if edge else "ok")
    assert check("edges", list(at_the_edge(width))[:9], settings={"space": SPACE}).verdict == "unknown"


def test_the_values_offered_are_those_of_numeric_choices_with_three_or_more(record):
    assert values_offered(replace(record, settings={"space": SPACE})) == {"width": [8, 16, 32], "depth": [1, 2, 3, 4]}
    offered = values_offered(record)
    assert (offered["hidden"], offered["depth"]) == ([32, 48, 64, 96, 128], [1, 2, 3, 4])
    assert "attention" not in offered


def test_a_front_that_still_grows_is_told_from_one_that_has_ended():
    growing = [complete(i, 3.0 - i / 20, 100.0) for i in range(32)]
    ended = [complete(i, 1.0 + (i > 1) * i / 20, 100.0) for i in range(32)]
    assert check("growth", growing).verdict == "look"
    assert (check("growth", ended).verdict, check("growth", ended).numbers["last_quarter"]) == ("ok", 0.0)
    assert check("growth", growing[:15]).verdict == "unknown"


@pytest.mark.parametrize(("gains", "falls"), [((1.0, 1.0), 1.0), ((1.0, 0.5), 0.5), ((0.5, 1.0), 1.0)])
def test_what_doubling_brings_is_the_last_two_doublings_continued(gains, falls):
    """The volumes after 4, 8 and 16 trials differ by these gains."""
    first, second = gains
    volumes = [1.0] * 4 + [1.0 + first] * 4 + [1.0 + first] * 7 + [1.0 + first + second]
    assert doubled(volumes) == pytest.approx((second * falls, second))


def test_a_floor_that_no_trial_beats_stands_at_the_top_of_the_page(record, tmp_path):
    floors = {"val": {"4-gram": {"loss": 0.5}, "uniform": {"loss": 4.2}}, "test": {}}
    beaten = {"val": {"uniform": {"loss": 4.2}}, "test": {}}
    found = health_of(replace(record, data={"floors": floors}))["baselines"]
    assert (found.verdict, found.numbers["floors"][0]["name"]) == ("look", "4-gram")
    html = report.write(replace(record, data={"floors": floors}), tmp_path / "r").read_text(encoding="utf-8")
    assert "does not beat a model without a neural network: the 4-gram has 0.5000" in html.split("<main>")[0]
    assert health_of(replace(record, data={"floors": beaten}))["baselines"].numbers["floors"][0]["beaten"]


def test_a_baseline_that_no_proposal_improves_on_is_named():
    rows = [complete(0, 1.0, baseline=True), complete(1, 1.5, 50.0)]
    assert check("baselines", rows).numbers["unbeaten"] == [{"metric": "val_loss", "baseline": 0}]
    assert check("baselines", [*rows, complete(2, 0.9)]).verdict == "ok"


def test_intervals_are_those_of_the_field():
    for count, of in ((0, 10), (3, 14), (10, 10)):
        told = binomtest(count, of).proportion_ci(method="exact")
        assert (share_interval(count, of).low, share_interval(count, of).high) == pytest.approx((told.low, told.high))
    assert (share_interval(0, 0).low, share_interval(0, 0).high) == (0.0, 1.0)


@pytest.mark.slow
def test_the_interval_of_a_rank_correlation_covers_the_truth():
    generator, covered = np.random.default_rng(3), 0
    truth = 6 / np.pi * np.arcsin(0.7 / 2)
    for _ in range(400):
        x_N, e_N = generator.normal(size=(2, 30))
        rho = float(spearmanr(x_N, 0.7 * x_N + np.sqrt(1 - 0.49) * e_N).statistic)
        interval = rank_interval(rho, 30)
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / 400 <= 0.98


def test_the_page_and_search_json_hold_every_check(record, tmp_path):
    page = report.write(record, tmp_path / "r")
    told = json.loads((page.parent / "search.json").read_text(encoding="utf-8"))["health"]
    html = " ".join(page.read_text(encoding="utf-8").split())
    names = ["baselines", "stopping", "skipping", "predictions", "rungs", "edges", "growth"]
    assert [each["name"] for each in told] == names
    assert all(set(each) == {"name", "verdict", "text", "numbers"} for each in told)
    section = html.split('id="health"')[1].split("</section>")[0]
    assert all(f'<th scope="row">{name}</th>' in section for name in names)


def test_what_others_wrote_is_escaped_on_the_page(record, tmp_path):
    floors = {"val": {"<b>bold</b>": {"loss": 0.5}}, "test": {}}
    html = report.write(replace(record, data={"floors": floors}), tmp_path / "r").read_text(encoding="utf-8")
    assert "<b>bold</b>" not in html


def test_the_terminal_shows_what_to_look_at_and_nothing_where_there_is_nothing():
    quiet = health_of(study([complete(0, 1.0)], BOTH))
    assert quiet.shortly() == []
    loud = health_of(study([complete(0, 1.5, 1.0), complete(9, 1.0, 5.0, control=Control(stop=50))], BOTH))
    lines = loud.shortly()
    assert lines[0].startswith("look: stopping: Of 1 trial")
    assert lines[-1].endswith("the report has all.")
