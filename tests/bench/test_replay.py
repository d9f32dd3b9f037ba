"""The replay of searches on closed-form time lines, and the reference point of their hypervolume."""

import math
from types import SimpleNamespace

import pytest

from nas.architecture import Architecture
from nas.bench import replay
from nas.bench.reference import costs_training, largest, reference, uniform
from nas.bench.replay import Curve, Finish, Scale
from nas.models import TOKENS, build
from nas.results import Constraint, Objective
from nas.settings import study_file
from nas.settings.task_settings import TextTask
from nas.space.architecture_space import Space
from nas.tasks import open_task

OBJECTIVES = (Objective("val_loss", "min"), Objective("params", "min"))
REFERENCE = {"val_loss": 8.0, "params": 8.0}
SCALE = Scale(OBJECTIVES, (Constraint("weights_mib", max=1.0),), REFERENCE)
LN2 = math.log(2)


def metrics(loss: float, params: float, weights: float = 0.5) -> dict[str, float]:
    return {"val_loss": loss, "params": params, "weights_mib": weights}


def line(*rows: tuple[float, str, float, float]) -> list[Finish]:
    return [Finish(seconds, key, metrics(loss, params)) for seconds, key, loss, params in rows]


def test_the_volume_is_of_log_ratios_to_the_reference():
    assert SCALE.volume([metrics(4, 2)]) == pytest.approx(LN2 * 2 * LN2)
    assert SCALE.volume([metrics(4, 2), metrics(2, 4)]) == pytest.approx(3 * LN2**2)
    assert SCALE.volume([metrics(4, 2), metrics(4, 4)]) == pytest.approx(2 * LN2**2)  # the second is dominated
    assert SCALE.volume([]) == SCALE.volume([metrics(8, 1), metrics(1, 9)]) == 0  # no better than the reference
    assert SCALE.volume([metrics(4, 2, weights=1.5)]) == 0  # over the limit


def test_a_large_objective_counts_from_the_reference_up_and_a_cost_of_nothing_is_bounded():
    scale = Scale((Objective("val_accuracy", "max"), Objective("decode_state_kib", "min")), (), {"val_accuracy": 0.1})
    scale.reference["decode_state_kib"] = 5.0
    row = {"val_accuracy": 0.4, "decode_state_kib": 0.0}
    assert scale.volume([row]) == pytest.approx(math.log(4) * math.log(replay.MOST))
    assert scale.volume([row | {"val_accuracy": 0.0}]) == scale.volume([row | {"val_accuracy": 0.05}]) == 0


def test_who_was_on_the_running_front_as_told():
    rows = [
        *line((1, "a", 4, 4), (2, "worse", 5, 4), (3, "other end", 6, 2), (4, "a", 4, 4), (5, "beats both", 3, 1)),
        Finish(6, "over the limit", metrics(1, 1, weights=2.0)),
        Finish(7, "not finite", metrics(math.nan, 1)),
    ]
    assert replay.joined(rows, SCALE) == [True, False, True, False, True, False, False]
    lines = {"ours": [rows[:3], rows[3:]], "stock": [rows[1:2]]}
    assert replay.members(lines, SCALE) == ["a", "other end", "beats both", "worse"]


def test_retrained_values_replace_those_told():
    """A lucky trial keeps its place on the front, and counts for what it is worth; beaten members still count."""
    rows = line((10, "lucky", 1, 1), (20, "hidden behind it", 2, 2), (30, "diverges", 0.5, 4))
    retrained = {"lucky": metrics(4, 4), "diverges": None}
    curve = replay.replayed(rows, SCALE, retrained)
    assert curve.seconds == [10, 20, 30]
    assert curve.volumes == pytest.approx([LN2**2] * 3)
    assert replay.told(rows, SCALE).volumes[0] == pytest.approx(9 * LN2**2)
    beaten = line((1, "first", 4, 4), (2, "beats it", 3, 3))
    again = {"first": metrics(2, 4), "beats it": metrics(4, 2)}
    assert replay.replayed(beaten, SCALE, again).volumes == pytest.approx([2 * LN2**2, 3 * LN2**2])


def test_a_limit_holds_for_retrained_values_too():
    rows = line((1, "a", 4, 4))
    assert replay.replayed(rows, SCALE, {"a": metrics(4, 4, weights=3.0)}).final == 0


OURS = [Curve([10, 30], [1.0, 3.0]), Curve([20, 50], [1.0, 2.5]), Curve([40], [1.0])]
STOCK = [Curve([20, 60, 80], [1.0, 2.0, 2.0]), Curve([100], [2.0]), Curve([50, 90], [0.5, 3.0])]


def test_the_time_ratio_is_over_the_seconds_in_which_stock_got_there_itself():
    told = replay.time_ratios(OURS, STOCK, budget_seconds=120)
    assert told["reached_seconds"] == [30, 50, None]
    assert told["time_ratio"] == {"per_seed": [0.5, 0.5, None], "median": 0.5}
    assert told["time_ratio_of_budget"] == {"per_seed": [0.25, 50 / 120, None], "median": 50 / 120}


def test_a_median_among_those_that_never_get_there_is_endless():
    assert replay.time_ratios(OURS[1:], STOCK[1:], 120)["time_ratio"] == {"per_seed": [0.5, None], "median": None}
    assert replay.endless_median([None]) is None
    assert replay.endless_median([None, 0.1, 0.3]) == 0.3


def test_volumes_that_differ_by_rounding_are_the_same():
    curve = Curve([1, 2], [2.0, 2.0 * (1 + 1e-13)])
    assert curve.reaches(curve.final) == 1
    assert curve.reaches(2.01) is None


# The reference point


@pytest.mark.parametrize("name", ["tiny_lm", "families", "reverse_spans"])
def test_the_largest_architecture_is_that_of_a_walk_through_the_space(name):
    file = study_file.load(f"search_spaces/{name}.toml", ["task.corpus=python-docs"])
    task = SimpleNamespace(vocabulary=40, context=file.task.context, head=TOKENS)

    def params(architecture: Architecture) -> int:
        return sum(p.numel() for p in build(architecture, task.vocabulary, task.context).parameters())

    whole = {a.id: params(a) for _, a in Space(file.spaces()).walk() if a.hidden == max(_hidden(file))}
    assert params(largest(file, task)) == max(whole.values())


def _hidden(file) -> set[int]:
    return {hidden for settings in file.spaces().values() for hidden in settings.hidden}


def test_guessing_evenly_is_the_reference_of_scores_and_the_largest_architecture_that_of_costs(tmp_path):
    (tmp_path / "text.txt").write_text("abcdefgh" * 100)
    task = open_task(TextTask(corpus=str(tmp_path / "text.txt"), context=8))
    found = reference((*OBJECTIVES, Objective("bits_per_char", "min")), task, {"val_loss": 9.0, "params": 700.0})
    assert found == pytest.approx({"val_loss": math.log(8), "params": 700, "bits_per_char": 3})
    assert uniform(task)["val_accuracy"] == pytest.approx(1 / 8)
    assert not costs_training(OBJECTIVES, task)
    assert costs_training([Objective("train_seconds", "min")], task)
