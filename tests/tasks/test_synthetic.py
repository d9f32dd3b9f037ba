"""Generated tasks: their laws, by slow loops; and that they can be learned by what should be able to."""

import itertools
import math
from collections import Counter

import pytest
import torch

from nas.architecture import Architecture
from nas.errors import DataError, InvalidStudyFile
from nas.settings import study_file
from nas.settings.study_settings import TrainSettings
from nas.settings.task_settings import AssociativeRecall, SelectiveCopy
from nas.tasks import open_task
from nas.tasks.token_task import IGNORED
from nas.training.trainer import Trainer

RECALL = AssociativeRecall(kind="associative_recall", vocabulary=64, context=32, pairs=4)
COPY = SelectiveCopy(kind="selective_copy", vocabulary=10, context=24, copied=5)


def examples(settings, size=200, seed=0):
    (tokens_BT,), targets_BT = open_task(settings).batch(torch.Generator().manual_seed(seed), size, "cpu")
    return tokens_BT.tolist(), targets_BT.tolist()


@pytest.mark.parametrize("random_gaps", [False, True])
def test_each_key_stands_again_once_and_asks_for_its_value(random_gaps):
    for tokens, targets in zip(*examples(RECALL.model_copy(update={"random_gaps": random_gaps})), strict=True):
        pairs = dict(zip(tokens[0:8:2], tokens[1:8:2], strict=True))
        assert len(pairs) == len(set(pairs.values())) == 4
        assert all(1 <= key < 32 <= value < 64 for key, value in pairs.items())
        asked = [place for place, target in enumerate(targets) if target != IGNORED]
        assert [targets[place] for place in asked] == [pairs[tokens[place]] for place in asked]
        assert {tokens[place] for place in asked} == set(pairs)
        assert all(place >= 8 and place % 2 == 0 for place in asked)
        if not random_gaps:
            assert {tokens[place] for place in range(8, 32) if place not in asked} == {0}


def chances(power, slots, drawn):
    """The probability that each slot is among those drawn one by one, by adding up every order of drawing."""
    weights = [(i + 1) ** (power - 1) for i in range(slots)]
    found = Counter()
    for order in itertools.permutations(range(slots), drawn):
        left, chance = sum(weights), 1.0
        for slot in order:
            chance *= weights[slot] / left
            left -= weights[slot]
        for slot in order:
            found[slot] += chance
    return [found[slot] for slot in range(slots)]


@pytest.mark.parametrize("power", [0.01, 1.0, 2.0])
def test_slots_are_drawn_without_replacement_by_the_power_law(power):
    settings = AssociativeRecall(
        kind="associative_recall", vocabulary=32, context=16, pairs=2, power=power, random_gaps=False
    )
    _, targets = examples(settings, size=20_000)
    counts = Counter((place - 4) // 2 for row in targets for place, target in enumerate(row) if target != IGNORED)
    assert [counts[slot] / 20_000 for slot in range(6)] == pytest.approx(chances(power, 6, 2), abs=0.015)


def test_scattered_tokens_are_asked_for_in_order():
    for tokens, targets in zip(*examples(COPY), strict=True):
        scattered = [token for token in tokens[:18] if token != 8]
        assert len(scattered) == 5
        assert tokens[17] != 8
        assert tokens[18] == 9
        assert tokens[19:] == [8] * 5
        assert targets == [IGNORED] * 19 + scattered


def test_each_blank_stands_before_any_of_the_tokens():
    """So gaps are multinomial: of 13 blanks, one in five before each token."""
    tokens, _ = examples(COPY, size=4000)
    gaps = Counter()
    for row in tokens:
        token = 0
        for symbol in row[:18]:
            gaps[token] += symbol == 8
            token += symbol != 8
    assert [gaps[token] / 4000 for token in range(5)] == pytest.approx([13 / 5] * 5, abs=0.1)


@pytest.mark.parametrize("settings", [RECALL, COPY])
def test_batches_repeat_by_seed_and_evaluation_always(settings):
    assert examples(settings, seed=3) == examples(settings, seed=3)
    assert examples(settings, seed=3) != examples(settings, seed=4)
    task = open_task(settings)
    first, again = (list(task.evaluation("val", 2000, 8)) for _ in range(2))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, again, strict=True))
    assert sum(len(targets) for _, targets in first) == 2000 // settings.context
    assert sum(len(targets) for _, targets in task.evaluation("test", 10**9, 500)) == 3000
    test = next(task.evaluation("test", 2000, 8))
    assert not torch.equal(first[0][1], test[1])


def test_the_data_are_told_apart_by_their_law():
    described = [open_task(s).describe()["sha256"] for s in (RECALL, COPY, RECALL.model_copy(update={"pairs": 3}))]
    assert len(set(described)) == 3
    assert open_task(RECALL).describe()["sha256"] == described[0]


def test_guessing_is_the_floor():
    assert open_task(RECALL).floors("val")["guessing"] == pytest.approx({"loss": math.log(32), "accuracy": 1 / 32})
    assert open_task(COPY).floors("test")["guessing"] == pytest.approx({"loss": math.log(8), "accuracy": 1 / 8})


def test_symbols_are_words():
    task = open_task(COPY)
    assert task.coder.decode(task.coder.encode("t0 - t7 copy")) == "t0 - t7 copy"
    with pytest.raises(DataError, match="t8"):
        task.coder.encode("t8")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"pairs": 9}, "at least 36"),
        ({"context": 33}, "even context"),
        ({"vocabulary": 32}, "larger than the context"),
        ({"corpus": "python-docs"}, "unknown key 'corpus'"),
    ],
)
def test_impossible_sizes_are_told(settings, told):
    file = """
        name = "recall"
        task = { kind = "associative_recall", context = 32, pairs = 4, vocabulary = 64 }
        space = { depth = 1, hidden = 16, attention = [{ kind = "softmax", heads = 1 }] }
        objectives = [{ metric = "val_accuracy" }]
    """
    study_file.parse(file)
    with pytest.raises(InvalidStudyFile) as caught:
        study_file.parse(file, [f"task.{key}={value}" for key, value in settings.items()])
    assert told in caught.value.render()


@pytest.mark.slow
def test_attention_learns_to_recall_what_a_short_window_cannot():
    """Two tokens after a key its value is long out of a window of two."""
    task = open_task(AssociativeRecall(kind="associative_recall", vocabulary=24, context=16, pairs=2))
    settings = TrainSettings(steps=120, batch=64, rungs=(1.0,), evaluation_tokens=4096)
    accuracy = {}
    for kind in ({"kind": "softmax", "heads": 1}, {"kind": "window", "heads": 1, "window": 2}):
        block = {"attention": kind, "feed_forward": {"kind": "swiglu", "ratio": 2.0}}
        architecture = Architecture.model_validate({"family": "decoder", "hidden": 32, "blocks": [block, block]})
        trained = Trainer(architecture, task, settings, seed=0).run_to_next_rung()
        accuracy[kind["kind"]] = trained.metrics["val_accuracy"]
    assert accuracy["softmax"] > 0.9
    assert accuracy["window"] < 0.5
