"""`nas check`, and the description that `nas search --dry-run` shows too."""

import pytest

from nas import models
from nas.api import checking as check
from nas.architecture import Architecture
from nas.space.architecture_space import Space
from nas.tasks import open_task
from nas.training.execution import Execution
from nas.training.memory_forecast import training_mib


@pytest.fixture
def study(settings, tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text(settings.to_toml())
    return path


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(check, "TIMED_SECONDS", 0.0)
    monkeypatch.setattr(check, "DRAWN", 8)


def test_describes_the_space_exactly(settings):
    described = check.describe(settings, slots=1)
    assert described["space_size"] == Space(settings.spaces()).size() == 48
    assert len(described["samples"]) == 5
    assert len({sample["architecture_id"] for sample in described["samples"]}) == 5
    for sample in described["samples"]:
        architecture = Architecture.model_validate(sample["architecture"])
        model = models.build(architecture, vocabulary=len(set(_text(settings))), context=8)
        assert sample["params"] == sum(p.numel() for p in model.parameters())
        assert sample["architecture_id"] == architecture.id


@pytest.fixture
def no_largest(monkeypatch):
    """Leaves out the largest architecture, whose search takes most of the time of a description."""
    monkeypatch.setattr(check, "_largest", lambda file, task: None)


def test_samples_follow_from_the_seed(settings, no_largest):
    other = settings.model_copy(update={"search": settings.search.model_copy(update={"seed": 1})})
    first, again, changed = (check.describe(s, slots=1)["samples"] for s in (settings, settings, other))
    assert first == again != changed


def test_the_estimate_grows_with_trials_and_steps_and_shrinks_with_slots(settings, no_largest, monkeypatch):
    monkeypatch.setattr(check, "_step_seconds", lambda file, task, architecture: architecture.depth * 1.0)
    more = settings.model_copy(update={"search": settings.search.model_copy(update={"trials": 60})})
    longer = settings.model_copy(update={"train": settings.train.model_copy(update={"steps": 600})})
    once = check.describe(settings, slots=1)["seconds"]
    assert 6 * 6 * 1 <= once <= 6 * 6 * 3  # trials × steps × seconds a step
    assert check.describe(more, slots=1)["seconds"] == pytest.approx(10 * once)
    assert check.describe(longer, slots=1)["seconds"] == pytest.approx(100 * once)
    assert check.describe(settings, slots=4)["seconds"] == pytest.approx(once / 4)


def test_real_steps_are_timed(settings, no_largest):
    assert check.describe(settings, slots=1)["seconds"] > 0


def test_several_learning_rates(settings, no_largest):
    train = settings.train.model_copy(update={"learning_rate": (0.01, 0.02)})
    assert check.describe(settings.model_copy(update={"train": train}), slots=1)["seconds"] > 0


def test_the_largest_architecture_is_the_one_that_needs_the_most_memory(settings, monkeypatch):
    monkeypatch.setattr(check, "_step_seconds", lambda file, task, architecture: 1.0)
    told = check.describe(settings, slots=1)["largest"]
    task, space = open_task(settings.task), Space(settings.spaces())
    every_fifth = [architecture for _, architecture in space.walk()][::5]
    found = Architecture.model_validate(told["architecture"])
    needed = {a.id: training_mib(a, task, settings.train, Execution()) for a in (*every_fifth, found)}
    assert told["training_mib"] == needed[told["architecture_id"]] == max(needed.values())


def test_a_large_architecture_is_timed_by_its_first_blocks(settings, monkeypatch):
    timed = []

    def seconds(file, task, architecture):
        timed.append((architecture.depth, file.train.micro_batch))
        return 2.0 + 3.0 * architecture.depth

    monkeypatch.setattr(check, "_timed_seconds", seconds)
    monkeypatch.setattr(check, "TIMED_MIB", 0.0)
    task, (small, *_) = open_task(settings.task), [a for _, a in Space(settings.spaces()).walk()]
    deep = small.model_copy(update={"blocks": small.blocks[:1] * 9})
    assert check._step_seconds(settings, task, deep) == pytest.approx(2.0 + 3.0 * 9)
    assert [depth for depth, _ in timed] == [1, 2]
    assert all(parts <= settings.train.batch for _, parts in timed)


def test_prints_it(nas, study):
    ran = nas("check", study)
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "48 architectures" in ran.out
    assert "an estimate" in ran.out
    assert "to train the largest" in ran.out
    assert "params <= 9000" in ran.out


def test_overrides(nas, study):
    assert (
        "2 architectures"
        in nas(
            "check",
            study,
            "-s",
            "space.attention=[{kind='linear', heads=2}]",
            "-s",
            "space.depth=1",
            "-s",
            "space.hidden=16",
        ).out
    )


def test_what_is_wrong_is_told_with_its_line(nas, study):
    ran = nas("check", study, "-s", "task.context=1")
    assert (ran.code, ran.out) == (2, "")
    assert "task.context" in ran.err


def _text(settings) -> str:
    from nas.data.text_source import find

    return "".join(piece.text for _, piece in find(settings.task.corpus).pieces())
