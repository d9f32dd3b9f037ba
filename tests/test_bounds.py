"""Bounds: the documentation tells the figures of nas.bounds, and hostile values end in an error at once.

None of these inputs may hang; each did, or ended in an internal error, before there were bounds.
"""

import re
from pathlib import Path

import pytest

from nas import bounds
from nas.architecture import Architecture
from nas.data import fetch
from nas.errors import InvalidArchitecture, UsageError
from nas.settings import study_file
from nas.toml_table import line_of

DOCUMENT = Path(study_file.__file__).parents[2] / "docs" / "study_file.md"
ELSEWHERE = {"PRECISION", "LEAST_CPU", "LEAST_GPU", "STEPS", "KEY_PARTS", "SECONDS"}
"""Bounds whose figure stands with a key, in other units, or in no key's way."""

SMALL = """
name = "small"
[space]
depth = [1]
hidden = [64]
attention = [{ kind = "softmax", heads = [1, 2] }]
[[objectives]]
metric = "val_loss"
"""
WINDOW = "space.attention=[{{kind='window', window={0}, global_tokens={0}, heads={0}, kv_heads={0}}}]"


def listed(values):
    return str(list(values))


def baseline(hidden=64, depth=1, heads=2, more=""):
    return f"baselines=[{{hidden={hidden}, depth={depth}, attention={{kind='softmax', heads={heads}}}{more}}}]"


def test_the_documentation_tells_every_bound():
    section = DOCUMENT.read_text(encoding="utf-8").split("## Bounds")[1].split("\n## ")[0]
    told = {int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", section)}
    figures = {name: value for name, value in vars(bounds).items() if isinstance(value, (int, float))}
    assert {name for name, value in figures.items() if value not in told} <= ELSEWHERE
    assert {fetch.RATIO, fetch.UNPACKED, bounds.SECONDS // 86_400} <= told


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (baseline(hidden=10**9, heads=7), "baselines[0].hidden = 1000000000"),
        (baseline(depth=10**6), "baselines[0].depth = 1000000"),
        (baseline(more=", repeat=1000000000"), "baselines[0].repeat = 1000000000"),
        (baseline(hidden=16384, depth=256), "hidden=16384 with 256 blocks is too large; use at most 4 blocks"),
        (baseline(depth=2, more=", repeat=1024"), "2 blocks, passed 1024 times, are more than 1024"),
        (baseline(heads=1024, more=", feed_forward={kind='none'}"), "heads=1024 must divide hidden=64"),
        (f"space.hidden={listed(range(8, 16008, 8))}", "expected at most 1,000 choices, got 2,000"),
        ("space.hidden=[100000]", "space.hidden[0] = 100000"),
        ("space.depth={low=1, high=257}", "space.depth[256] = 257"),
        ("space.depth={low=1, high=1000000000}", "expected at most 1,000 numbers"),
        ("space.repeat=[1, 1000000000]", "space.repeat[1] = 1000000000"),
        ("space.attention=[{kind='latent', rope_size=1000000}]", "rope_size=1000000: input should be less"),
        (WINDOW.format(listed(range(1, 201))), "1,600,000,000 combinations of attention are more than 10,000"),
        ("space.attention=[{kind='softmax', heads=[]}]", "expected at least one choice"),
        (f"space.feed_forward.ratio={listed(1 + i / 999 for i in range(1000))}", ""),
        ("task.context=1000000000", "task.context = 1000000000"),
        ("train.batch=1000000000", "train.batch = 1000000000"),
        ("measure.batch=1000000", "batch 1,000,000 × context 64 is more than 16,777,216"),
        ("task={kind='associative_recall', vocabulary=1000000, pairs=8}", ""),
        ("measure.repeats=1000000000", "measure.repeats = 1000000000"),
        ("search.trials=1000000000", "search.trials = 1000000000"),
        (f"train.rungs={listed((i + 1) / 200 for i in range(200))}", "expected at most 100 rungs, got 200"),
        (f"train.time_limit=1{' ' * 50000}x", "expected a duration such as"),
        ("train.time_limit=1e300", "train.time_limit = 1e+300"),
        ("train.time_limit=400d", "expected at most 366d"),
        ("resources.cpus_per_trial=1e-300", "resources.cpus_per_trial = 1e-300"),
        ("resources.gpus_per_trial=1e-300", "must be at least 0.01"),
        (f"space={'[' * 500}{']' * 500}", "at most 16 deep in each other"),
        (f"space={'{a=' * 500}1{'}' * 500}", "at most 16 deep in each other"),
        (f"{'a.' * 50000}b=1", "expected a key of at most 16 names"),
        (f"objectives.{'1' * 5000}.metric=params", "does not exist"),
        (f"train.steps={'1' * 5000}", "expected whole numbers up to 9,223,372,036,854,775,807"),
        (f"train.steps=0x{'f' * 5000}", "expected whole numbers up to 9,223,372,036,854,775,807"),
        (f"task.corpus={'x' * 5000}", "should have at most 4096 characters"),
        (f"search.sampler={'x' * 100000}", "unknown value"),
        (f"{'x' * 100000}=1", "unknown key"),
    ],
)
def test_values_beyond_the_bounds_are_refused(override, message):
    if not message:  # as large as may be
        assert study_file.parse(SMALL, [override])
        return
    with pytest.raises(UsageError) as caught:
        study_file.parse(SMALL, [override])
    assert message in str(caught.value)
    assert caught.value.exit_code == 2
    assert len(caught.value.render()) < 6000


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (f"x = {'[' * 500}{']' * 500}", "at most 16 deep"),
        (f"x = {'1' * 5000}", "whole numbers up to"),
        (f"a{'.a' * 30000} = 1", "at most 100 names with dots between"),
        (f"[a{'.a' * 30000}]", "at most 100 names with dots between"),
        (f"x = {{ a{'.a' * 30000} = 1 }}", "at most 100 names with dots between"),
        ("#" * 10**6, "at most 131,072 characters"),
        (f"[{' ' * 50000}x", "not valid TOML"),
        ("baselines = [" + "{ hidden = 64, depth = 1 }, " * 101 + "]", "baselines"),
    ],
)
def test_texts_beyond_the_bounds_are_refused(more, message):
    with pytest.raises(UsageError) as caught:
        study_file.parse(more + "\n" + SMALL if more.startswith("baselines") else SMALL + more)
    assert message in str(caught.value)


@pytest.mark.parametrize("line", ["[[" + " " * 50000, "[" + " " * 50000, " " * 50000 + "=", "a" + " " * 50000])
def test_a_line_is_found_among_long_ones(line):
    assert line_of(f"{line}\n[a]\nb = 1", "a.b") == 3


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": 10**9},
        {"repeat": 10**9},
        {"blocks": [{"attention": {"kind": "softmax"}}] * 300},
        {"blocks": [{"attention": {"kind": "softmax", "heads": 10**9}}]},
        {"blocks": [{"attention": {"kind": "softmax", "heads": 1024, "head_size": 4096}}]},
        {"blocks": [{"attention": {"kind": "gated_delta", "conv": 10**9}}]},
        {"blocks": [{"attention": {"kind": "window", "window": 10**9}}]},
        {"blocks": [{"attention": {"kind": "block_sparse", "far": 10**9}}]},
    ],
)
def test_architectures_beyond_the_bounds_are_refused(change):
    with pytest.raises(InvalidArchitecture):
        Architecture.model_validate({"hidden": 64, "blocks": [{"attention": {"kind": "softmax"}}], **change})


def test_the_heads_of_a_large_prime_are_told_at_once():
    block = Architecture.model_validate({"hidden": 64, "blocks": [{"attention": {"kind": "softmax"}}]}).blocks[0]
    assert block.problem(999_999_937, "causal") == (
        "attention.heads=4 must divide hidden=999999937",
        "use one of 1, 999999937",
    )
