"""What is said of a confirmed front, against values worked out by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from nas import pareto
from nas.confirm.certainty import Certainty
from nas.confirmation import Block, Confirmation
from nas.results import Constraint
from tests.confirm.confirmed_records import HARDWARE, LOSS, SIZE, TIME, confirmation, study, trial

TRIALS = (trial(0, 1.40, 0.30), trial(1, 1.42, 0.29), trial(2, 2.00, 0.10), trial(3, 1.45, 0.31))
BLOCKS = (0.30, 0.31, 0.30, 0.29, 0.30)
FAST = tuple(ms / 3 for ms in BLOCKS)
RECORD = study(
    TRIALS,
    [
        confirmation(0, (1.50, 1.52, 1.48), BLOCKS, drop=0.1),
        confirmation(1, (1.49, 1.51, 1.50), BLOCKS, drop=0.2),
        confirmation(2, (2.02, 2.00, 1.98), FAST),
    ],
)


def test_nothing_is_said_where_nothing_was_confirmed():
    assert Certainty.of(study(TRIALS, [])) is None
    assert Certainty.of(study(TRIALS[:2], [confirmation(2, (1.0, 1.1, 1.2))])) is None


def test_one_member_has_students_interval():
    """Mean 1.5, s = 0.02, t₀.₉₇₅ with 2 degrees of freedom 4.3027: ± 4.3027 · 0.02 / √3 = 0.04968."""
    sure = Certainty.of(study(TRIALS[:1], [confirmation(0, (1.50, 1.52, 1.48))]))
    found = sure.member(0).metrics["val_loss"]
    assert (found.mean, found.low, found.high) == pytest.approx((1.5, 1.5 - 0.04968, 1.5 + 0.04968), abs=1e-5)
    assert found.half == pytest.approx(0.04968, abs=1e-5)
    assert sure.member(0).probability == 1.0
    assert sure.groups == ((0,),)


def test_members_that_vary_alike_share_their_spread():
    """Three members with s² of 0.0004, 0.0001 and 0.0004: pooled 0.0003 with 6 degrees of freedom, t = 2.4469."""
    sure = Certainty.of(RECORD)
    half = 2.4469 * math.sqrt(0.0003 / 3)
    assert [sure.member(n).metrics["val_loss"].half for n in (0, 1, 2)] == pytest.approx([half] * 3, rel=1e-4)


def test_ties_groups_and_order():
    sure = Certainty.of(RECORD)
    assert sure.order == (0, 1, 2)
    assert sure.groups == ((0, 1), (2,))
    assert [sure.member(n).ties for n in (0, 1, 2)] == [(1,), (0,), ()]
    assert sure.trained == ("val_loss",)


def test_a_race_that_ends_after_three_seeds_spends_its_error_there():
    """p of the difference of 0 and 2 is below 5 % · (3/8)² / 3 alone where more looks were to come."""
    noisy = {0: (1.50, 1.52, 1.48), 1: (1.49, 1.51, 1.50), 2: (1.60, 1.58, 1.62)}
    record = study(TRIALS, [confirmation(n, losses) for n, losses in noisy.items()])
    more, last = Certainty.of(record), Certainty.of(replace(record, race=(3, 3)))
    assert more.member(2).ties == (0, 1)
    assert last.member(2).ties == ()


def test_nothing_is_compared_before_everybody_has_the_first_seeds():
    early = replace(RECORD, confirmed={**RECORD.confirmed, 1: confirmation(1, (1.5, 1.51), BLOCKS)})
    sure = Certainty.of(early)
    assert sure.compared == 0
    assert sure.member(2).ties == (0, 1)
    assert Certainty.of(RECORD).compared == 3
    assert sure.member(2).probability == 1.0


def test_times_come_from_blocks_as_ratios():
    """Logarithms of five blocks, the same shape twice: pooled variance, 8 degrees of freedom."""
    two = study(TRIALS[1:3], [confirmation(1, (1.5, 1.5), BLOCKS), confirmation(2, (2.0, 2.1), FAST)])
    found = Certainty.of(two).member(2).metrics["decode_ms_per_token"]
    logs = np.log(FAST)
    half = stats.t.ppf(0.975, 8) * logs.std(ddof=1) / math.sqrt(5)
    assert found.mean == pytest.approx(math.exp(logs.mean()))
    assert (found.low, found.high) == pytest.approx((math.exp(logs.mean() - half), math.exp(logs.mean() + half)))


def test_blocks_beside_other_load_count_only_where_quiet_ones_are_missing():
    loud = tuple(Block(600.0 + k, {"decode_ms_per_token": 9.0, "contended": 1.0}, HARDWARE) for k in range(3))
    elsewhere = (Block(900.0, {"decode_ms_per_token": 5.0}, "another machine"),)
    quiet = confirmation(0, (1.5, 1.6), (0.3, 0.3))
    mixed = replace(quiet, blocks=(*quiet.blocks, *loud, *elsewhere))
    assert Certainty.of(study(TRIALS[:1], [mixed])).member(0).metrics["decode_ms_per_token"].mean == pytest.approx(0.3)
    assert Certainty.of(study(TRIALS[:1], [mixed])).member(0).disturbed == 3
    only = replace(quiet, blocks=loud)
    assert Certainty.of(study(TRIALS[:1], [only])).member(0).metrics["decode_ms_per_token"].mean == pytest.approx(9.0)


def test_exact_metrics_have_no_spread_and_a_lone_seed_no_interval():
    sure = Certainty.of(study(TRIALS[:1], [confirmation(0, (1.5,))], objectives=(LOSS, SIZE)))
    assert sure.member(0).metrics["weights_mib"].plain() == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert sure.member(0).metrics["val_loss"].plain() == {"mean": 1.5, "low": None, "high": None}
    assert sure.member(0).probability is None
    assert sure.hypervolume is None


def test_a_member_that_failed_has_lost_its_place():
    record = study(TRIALS, [*RECORD.confirmed.values(), confirmation(3, (1.5, 1.5), failures=1)])
    record = replace(record, confirmed={**record.confirmed, 0: confirmation(0, (1.5, 1.52), failures=1)})
    sure = Certainty.of(record)
    assert sure.member(0) is None
    assert (sure.members[0].failed, sure.members[0].seeds) == (1, 3)
    assert sure.order == (1, 2)
    assert [t.number for t in pareto.searched_front(record)] == [0, 1, 2]
    assert [t.number for t in pareto.front_of(record)] == [1, 2]


def test_the_probability_to_be_on_the_front():
    """Member 2 is far the fastest, and 0 and 1 differ by noise alone in both objectives."""
    found = [Certainty.of(RECORD).member(n).probability for n in (0, 1, 2)]
    assert found[2] == 1.0
    assert 0.3 < found[0] < 0.95
    assert 0.3 < found[1] < 0.95
    assert found == [Certainty.of(RECORD).member(n).probability for n in (0, 1, 2)]


def test_who_is_over_a_limit_in_half_of_the_draws_is_on_the_front_in_half():
    limit = Constraint("decode_ms_per_token", max=float(np.exp(np.log(FAST).mean())))
    sure = Certainty.of(replace(RECORD, constraints=(limit,)))
    assert sure.member(2).probability == pytest.approx(0.5, abs=0.1)
    assert sure.member(0).probability == 0.0


def test_the_search_picked_the_lucky():
    """Searched minus confirmed, over 0, 1 and 2: −0.1, −0.08, 0: mean −0.06, s = 0.05292, t = 4.3027."""
    sure = Certainty.of(RECORD)
    found = sure.bias["val_loss"]
    assert found.mean == pytest.approx(-0.06)
    assert found.half == pytest.approx(4.3027 * 0.05292 / math.sqrt(3), rel=1e-3)


def test_the_drop_from_validation_to_test():
    """Two members were tested: 0.1 and 0.2 more."""
    found = Certainty.of(RECORD).drop["val_loss"]
    assert found.mean == pytest.approx(0.15)
    assert found.half == pytest.approx(12.706 * math.sqrt(0.005 / 2), rel=1e-3)


def test_the_order_of_the_search_against_the_confirmed_one():
    """Ranks 1 2 3 4 5 against 2 1 3 4 5: ρ = 1 − 6 · 2 / (5 · 24) = 0.9."""
    searched, confirmed = (1.0, 1.1, 1.2, 1.3, 1.4), (1.15, 1.1, 1.2, 1.3, 1.4)
    trials = [trial(n, x, 0.5 - 0.1 * n) for n, x in enumerate(searched)]
    record = study(trials, [confirmation(n, (x, x + 0.01, x - 0.01)) for n, x in enumerate(confirmed)])
    found = Certainty.of(record).ranking["val_loss"]
    half = 1.959964 * math.sqrt((1 + 0.405) / 2)
    assert found.mean == pytest.approx(0.9)
    assert (found.low, found.high) == pytest.approx(
        (math.tanh(math.atanh(0.9) - half), math.tanh(math.atanh(0.9) + half))
    )


def test_longer_trainings_are_not_compared_with_the_searchs_own():
    record = study(TRIALS, [confirmation(n, (1.0 + n, 1.01 + n, 1.02 + n), steps=800) for n in range(4)])
    sure = Certainty.of(record)
    assert sure.steps == 800
    assert sure.bias == {}
    assert "val_loss" in sure.ranking


def test_of_two_lengths_the_one_with_more_members_counts():
    longer = {n: replace(found, retrainings=found.retrainings) for n, found in RECORD.confirmed.items()}
    extra = confirmation(0, (1.2, 1.3), steps=800).retrainings
    longer[0] = replace(longer[0], retrainings=(*longer[0].retrainings, *extra))
    assert Certainty.of(replace(RECORD, confirmed=longer)).steps == 200


def test_the_hypervolume_lies_in_its_interval_and_the_searched_one_is_larger():
    sure = Certainty.of(RECORD)
    assert sure.hypervolume.low < sure.hypervolume.mean < sure.hypervolume.high
    assert sure.searched_hypervolume > sure.hypervolume.mean


def test_the_plain_form_is_json_with_the_promised_keys():
    told = json.loads(json.dumps(Certainty.of(RECORD).member(0).plain(), allow_nan=False))
    assert set(told) == {"seeds", "steps", "metrics", "probability", "ties"}
    assert (told["seeds"], told["steps"], told["ties"]) == (3, 200, [1])
    assert set(told["metrics"]) == {"val_loss", "decode_ms_per_token", "test_loss"}
    assert set(told["metrics"]["val_loss"]) == {"mean", "low", "high"}


def test_members_are_sorted_by_what_is_best_known():
    sure = Certainty.of(RECORD)
    assert [t.number for t in sure.ranked(TRIALS, "val_loss", "min")] == [3, 0, 1, 2]
    assert [t.number for t in sure.ranked(TRIALS, "val_loss", "max")] == [2, 0, 1, 3]


def test_a_confirmation_without_a_training_says_nothing():
    assert (
        Certainty.of(study(TRIALS, [Confirmation(0, (), (Block(0.0, {"decode_ms_per_token": 1.0}, HARDWARE),))]))
        is None
    )


def test_objectives_that_need_no_training():
    record = study(TRIALS, list(RECORD.confirmed.values()), objectives=(TIME, SIZE))
    sure = Certainty.of(record)
    assert sure.trained == ()
    assert sure.ranking == sure.bias == sure.drop == {}
    assert sure.member(2).probability == 1.0
