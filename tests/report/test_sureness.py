"""What is written of the certainty of a front, in sentences and cells."""

from dataclasses import replace

from nas.confirm.estimates import Estimate
from nas.confirmation import Confirmation
from nas.report.sureness import Sureness, chance, interval
from tests.confirm.confirmed_records import LOSS, SIZE, TIME, confirmation, study, trial

TRIALS = [trial(n, 1.4 + n / 10, 0.5 - n / 10) for n in range(5)]
MEASURED = trial(7, 1.4, 0.5)
SPREAD = {**MEASURED.metrics, "decode_ms_per_token_p10": 0.4, "decode_ms_per_token_p90": 0.6}


def sure(*confirmations: Confirmation, objectives=(LOSS, TIME, SIZE)) -> Sureness:
    return Sureness.of(study(TRIALS, confirmations, objectives))


def test_a_value_of_one_training_is_followed_by_one_seed_and_a_time_by_its_percentiles():
    told, measured = sure(), replace(MEASURED, metrics=SPREAD)
    assert told.cell(measured, LOSS).small == "one seed"
    assert (told.cell(measured, TIME).small, told.cell(measured, SIZE).small) == ("0.4000–0.6000", "")
    assert told.alone(measured)
    assert not Sureness.of(study(TRIALS, [], (TIME, SIZE))).alone(measured)
    assert told.basis() == told.tied() == told.failures() == told.risen(TRIALS) == ""
    assert told.sentences() == []


def test_a_new_seed_alone_is_still_one_seed():
    cell = sure(confirmation(0, (1.5,))).cell(TRIALS[0], LOSS)
    assert (cell.text, cell.small) == ("1.500", "one seed")


def test_a_confirmed_value_has_its_interval_and_beside_it_what_the_search_had():
    told = sure(confirmation(0, (1.50, 1.52, 1.48), (0.5, 0.5, 0.5)))
    assert (told.cell(TRIALS[0], LOSS).text, told.cell(TRIALS[0], LOSS).small) == ("1.500", "±0.050")
    assert told.beside_the_search(TRIALS[0], LOSS).small == "±0.050; the search had 1.400"
    assert told.cell(TRIALS[0], SIZE).small == ""
    assert told.basis() == "1 trial trained again for 200 steps with 3 new seeds each, and measured in 3 blocks " + (
        "while nothing trained."
    )


def test_ties_with_all_others_are_told_as_all():
    alike = [confirmation(n, (1.5, 1.6, 1.4)) for n in range(4)]
    assert sure(*alike).ties(TRIALS[0]) == "all"
    assert sure(*alike[:3]).ties(TRIALS[0]) == "1, 2"
    early = sure(*alike[:3], confirmation(3, (1.5, 1.6)))
    assert early.tied() == "Nothing is compared yet: first, every trial needs more seeds."
    apart = sure(confirmation(0, (1.0, 1.01, 1.02)), confirmation(1, (3.0, 3.01, 3.02)))
    assert apart.tied() == "Every two of them differ in val_loss (family-wise error 5 %)."


def test_blocks_beside_other_load_are_told():
    loud = confirmation(0, (1.5, 1.6, 1.4), (0.5, 0.5))
    blocks = tuple(replace(block, metrics={**block.metrics, "contended": 1.0}) for block in loud.blocks)
    assert "2 of 2 blocks were measured beside other load." in sure(replace(loud, blocks=blocks)).basis()


def test_a_bias_that_may_be_chance_is_told_so():
    lucky = sure(*(confirmation(n, (1.5 + n / 10, 1.5 + n / 10, 1.5 + n / 10)) for n in range(3)))
    assert "are 0.1000 nats/token better than with new seeds." in lucky.sentences()[0]
    mixed = sure(*(confirmation(n, [x] * 3) for n, x in ((0, 1.5), (1, 1.4), (2, 1.7))))
    assert "so this may be chance" in mixed.sentences()[0]


def test_chances_are_never_certain():
    assert [chance(p) for p in (0.0, 0.005, 0.634, 0.999, 1.0)] == ["< 1 %", "< 1 %", "63 %", "> 99 %", "> 99 %"]


def test_intervals():
    assert interval(Estimate(1.5, 1.4, 1.6)) == "1.500 (1.400–1.600)"
    assert interval(Estimate(1.5)) == interval(Estimate.exact(1.5)) == "1.500"
