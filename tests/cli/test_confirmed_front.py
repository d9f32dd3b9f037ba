"""A confirmed study, as `nas front` and `nas show` tell it; its confirmations go through the database."""

import io
import json
from dataclasses import replace

import pandas as pd
import pytest

from nas.confirmation import Confirmation
from nas.study import open_study
from tests.confirm.confirmed_records import HARDWARE, confirmation
from tests.confirm.stored import store


@pytest.fixture
def front(runs) -> list[int]:
    """The numbers on the front of the stored study, best first; the loss rises and the time falls along it."""
    return [trial.number for trial in open_study("demo").front()]


@pytest.fixture
def confirmed(runs, front) -> list[int]:
    """The first two have equal losses; the third is far from both, and much faster."""
    best, second, third, *_ = front
    blocks = {best: 0.70, second: 0.48, third: 0.20}
    losses = {best: (2.10, 2.14, 2.12), second: (2.11, 2.15, 2.13), third: (2.60, 2.61, 2.62)}
    store(
        runs / "demo",
        [
            confirmation(n, losses[n], [blocks[n] * (1 + k / 200) for k in range(5)], steps=6, drop=0.05)
            for n in (best, second, third)
        ],
    )
    return [best, second, third]


def test_a_front_of_one_seed_says_so(nas, front):
    ran = nas("front", "demo")
    assert ran.code == 0
    assert ran.out.count("one seed\n") + ran.out.count("one seed ") >= len(front)
    assert "nas confirm demo" in ran.out
    assert "±" not in ran.out
    assert all(row["confirmed"] is None for row in json.loads(nas("front", "demo", "--format", "json").out))


def test_the_table_tells_intervals_ties_and_probabilities(nas, confirmed):
    best, second, third = confirmed
    ran = nas("front", "demo")
    assert ran.code == 0
    assert max(map(len, ran.out.split("\n* ")[0].splitlines())) <= 80
    assert "±" in ran.out
    assert f"{best} ≈ {second}" in ran.out
    told = "3 trials trained again for 6 steps with 3 new seeds each, and measured in 5 blocks"
    assert told in " ".join(ran.out.split())
    rows = [line.split() for line in ran.out.splitlines()]
    (line,) = (row for row in rows if row and row[0].strip("*~") == str(third))
    assert line[1] == "2.610"
    assert "> 99 %" in " ".join(line)


def test_json_and_csv_carry_it(nas, confirmed):
    best, second, third = confirmed
    rows = {row["number"]: row["confirmed"] for row in json.loads(nas("front", "demo", "--format", "json").out)}
    assert set(rows[best]) == {"seeds", "steps", "metrics", "probability", "ties"}
    assert (rows[best]["seeds"], rows[best]["steps"], rows[best]["ties"]) == (3, 6, [second])
    assert rows[best]["metrics"]["val_loss"]["mean"] == pytest.approx(2.12)
    assert rows[best]["metrics"]["test_loss"]["mean"] == pytest.approx(2.17)
    assert rows[third]["ties"] == []
    assert rows[third]["probability"] == 1.0
    frame = pd.read_csv(io.StringIO(nas("front", "demo", "--format", "csv").out)).set_index("number")
    assert frame.loc[best, "confirmed.val_loss"] == pytest.approx(2.12)
    assert frame.loc[best, "confirmed.val_loss_low"] == pytest.approx(rows[best]["metrics"]["val_loss"]["low"])
    assert int(frame.loc[best, "confirmed.ties"]) == second
    assert frame.loc[third, "confirmed.seeds"] == 3


def test_show_tells_the_standing_of_a_trial(nas, confirmed):
    best, second, _ = confirmed
    ran = nas("show", "demo", best)
    told = " ".join(ran.out.split())
    assert "3 new seeds, 5 blocks; on the front with a probability of" in told
    assert f"≈ {second}" in told
    assert "confirmed (95 %)" in ran.out
    assert "2.120 (" in ran.out
    assert "test_loss" in ran.out
    told = json.loads(nas("show", "demo", best, "--json").out)
    assert told["confirmed"]["ties"] == [second]
    assert told["failed_seeds"] == 0


def test_an_unconfirmed_trial_is_shown_with_one_seed(nas, front):
    ran = nas("show", "demo", front[0])
    assert [
        w
        for w in next(line for line in ran.out.splitlines() if line.startswith("val_loss")).split()
        if w in ("val_loss", "one", "seed")
    ] == ["val_loss", "one", "seed"]
    assert json.loads(nas("show", "demo", front[0], "--json").out)["confirmed"] is None


def test_a_member_that_failed_has_lost_its_place(nas, runs, front):
    store(runs / "demo", [confirmation(front[0], (2.1, 2.2), steps=6, failures=1)])
    ran = nas("front", "demo")
    assert f"lost its place on the front: trial {front[0]} in 1 of 3 trainings" in " ".join(ran.out.split())
    assert front[0] not in [row["number"] for row in json.loads(nas("front", "demo", "--format", "json").out)]
    assert "failed in 1 of 3 trainings with new seeds" in nas("show", "demo", front[0]).out
    told = json.loads(nas("show", "demo", front[0], "--json").out)
    assert (told["on_front"], told["confirmed"], told["failed_seeds"]) == (False, None, 1)


def test_a_limit_counts_in_the_probability(nas, runs, confirmed):
    """The search found the trial well within the limit; its blocks lie on both sides of it."""
    *_, third = confirmed
    middle = 0.2 * 1.01
    member = dict.fromkeys(confirmed)
    rows = json.loads(nas("front", "demo", "--format", "json", "--where", f"decode_ms_per_token<={middle}").out)
    member |= {row["number"]: row["confirmed"] for row in rows}
    assert 0.2 < member[third]["probability"] < 0.8


def test_a_dominated_trial_that_new_seeds_lift_is_told(nas, runs, front):
    record = open_study("demo").record()
    other = next(t for t in record.trials if t.eligible and t.number not in front)
    low = confirmation(other.number, (1.0, 1.01, 1.02), (0.1, 0.1, 0.101), steps=6)
    store(runs / "demo", [low, *(confirmation(n, (2.5, 2.51, 2.52), (0.9, 0.9, 0.91), steps=6) for n in front)])
    assert f"likely on the front by new seeds: {other.number} (> 99 %)" in " ".join(nas("front", "demo").out.split())


def test_blocks_of_another_machine_do_not_count(runs, front, nas):
    mine = confirmation(front[0], (2.1, 2.2, 2.15), (0.5, 0.5), steps=6)
    there = replace(mine.blocks[0], hardware="elsewhere", began=1e3)
    other = replace(mine, blocks=(*mine.blocks, there))
    assert {b.hardware for b in other.blocks} == {HARDWARE, "elsewhere"}
    store(runs / "demo", [Confirmation(front[0], other.retrainings, other.blocks)])
    assert "3 new seeds, 2 blocks" in nas("show", "demo", front[0]).out
