"""ListOps: the law, by another way of reading it; and splits that share no tree."""

import random
from statistics import median

import pytest
import torch

from nas.errors import DataError, InvalidStudyFile
from nas.settings.study_file import parse
from nas.settings.task_settings import ListOps
from nas.tasks import open_task
from nas.tasks.list_ops import drawn


@pytest.fixture(scope="module")
def task():
    return open_task(ListOps(kind="list_ops"))


def value_of(words):
    """By a stack, as one would read it."""
    stack = []
    for word in words:
        if word != "]":
            stack.append(int(word) if word.isdigit() else word)
            continue
        values = []
        while not isinstance(stack[-1], str):
            values.append(stack.pop())
        made = {"[MIN": min, "[MAX": max, "[MED": lambda v: int(median(v)), "[SM": lambda v: sum(v) % 10}[stack.pop()]
        stack.append(made(values))
    (value,) = stack
    return value


def test_the_target_is_the_value_of_the_expression(task):
    (tokens_BT, padding_BT), values_B = task.batch(torch.Generator().manual_seed(0), 200)
    for tokens, padding, value in zip(tokens_BT, padding_BT, values_B.tolist(), strict=True):
        words = task.coder.decode(tokens[~padding].tolist()).split()
        assert 10 < len(words) < 100
        assert value_of(words) == value


@pytest.mark.slow
def test_the_law_has_the_published_shares(task):
    """Measured on 1,000 kept trees of this window: 28 tokens on average, the commonest digit 16 %."""
    generator = random.Random(5)
    trees = [drawn(generator, task.settings) for _ in range(1000)]
    assert sum(len(tree) for tree, _ in trees) / 1000 == pytest.approx(28, abs=2.5)
    assert 0.13 < task.floors("val")["majority"]["accuracy"] < 0.2
    inner = [sum(word.startswith("[") for word in tree) for tree, _ in trees]
    assert min(inner) == 1


def test_splits_are_distinct_and_training_never_shows_them(task):
    val, test = ({tree for tree, _ in task.held_out[split]} for split in ("val", "test"))
    assert len(val) == len(test) == 2000
    assert not val & test
    short = open_task(ListOps(kind="list_ops", shortest=3, longest=9))
    fresh = {tree for tree, _ in short._fresh(random.Random(0), 500)}
    assert not fresh & {tree for split in ("val", "test") for tree, _ in short.held_out[split]}


def test_batches_repeat_by_seed(task):
    first, again, other = (task.batch(torch.Generator().manual_seed(seed), 8) for seed in (1, 1, 2))
    assert torch.equal(first[0][0], again[0][0])
    assert not torch.equal(first[1], other[1]) or first[0][0].shape != other[0][0].shape


def test_a_window_that_holds_nothing_is_refused():
    study = """
        name = "ops"
        family = "encoder"
        task = { kind = "list_ops", shortest = 50, longest = 52 }
        space = { depth = 1, hidden = 16, attention = [{ kind = "softmax", heads = 1 }] }
        objectives = [{ metric = "val_accuracy" }]
    """
    with pytest.raises(InvalidStudyFile, match="at least 5 above"):
        parse(study)


def test_lengths_that_hardly_occur_are_refused():
    with pytest.raises(DataError, match="too few expressions have more than 3990 and fewer than 4000 tokens"):
        open_task(ListOps(kind="list_ops", shortest=3990, longest=4000))


def test_the_largest_batch_is_of_long_trees(task):
    (tokens_BT, _), _ = task.largest(3000)
    assert tokens_BT.shape == (3000, max(len(tree) for tree, _ in task.held_out["val"]))
