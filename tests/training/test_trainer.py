"""The training loop: rungs, checkpoints, resuming, and how it fails; on a small text and small real models."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from torch import Tensor, nn

from nas import files, models
from nas.architecture import Architecture
from nas.errors import Conflict, DataError, OutOfReach, UsageError
from nas.results import Rung
from nas.settings.study_settings import TrainSettings
from nas.settings.task_settings import TextTask
from nas.tasks import Task, open_task
from nas.training import model_folder as artifact
from nas.training import optimiser
from nas.training import trainer as train
from nas.training.trained_model import read_model
from nas.training.trainer import Diverged, TimeLimit, Trainer, TrainingInterrupted

pytestmark = pytest.mark.slow
BLOCK = {"attention": {"kind": "softmax", "heads": 2}, "feed_forward": {"kind": "swiglu", "ratio": 1}}
ARCHITECTURE = Architecture.model_validate({"hidden": 16, "blocks": [BLOCK]})
SETTINGS = TrainSettings(steps=12, batch=4, evaluation_tokens=256)
ALPHABET = "abcdefghijklmnop"
TEXT = "".join(ALPHABET[i * i % 16] for i in range(3000))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(ALPHABET + TEXT)
    return open_task(TextTask(corpus=str(path), context=8))


@pytest.fixture
def trainer(task: Task) -> Callable[..., Trainer]:
    def make(settings: TrainSettings = SETTINGS, architecture: Architecture = ARCHITECTURE, **rest: Any) -> Trainer:
        return Trainer(architecture, task, settings, **{"seed": 0, **rest})

    return make


def after(steps: int) -> Callable[[], bool]:
    """A `should_stop` that says yes at the question after `steps` steps."""
    asked = iter(range(10**6))
    return lambda: next(asked) >= steps


def finish(trainer: Trainer) -> Trainer:
    while not trainer.done:
        trainer.run_to_next_rung()
    return trainer


def losses(trainer: Trainer) -> list[tuple[int, float]]:
    return [(rung.step, rung.metrics["val_loss"]) for rung in trainer.rungs]


def assert_equal_weights(a: nn.Module, b: nn.Module) -> None:
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q), name


@pytest.mark.parametrize(
    ("steps", "rungs", "expected"),
    [
        (200, (0.25, 0.5, 1.0), (50, 100, 200)),
        (3, (0.25, 0.5, 1.0), (1, 2, 3)),
        (1, (0.25, 0.5, 1.0), (1,)),
        (10, (0.01, 0.02, 1.0), (1, 10)),
        (7, (1.0,), (7,)),
    ],
)
def test_rungs_are_fractions_of_the_steps(steps: int, rungs: tuple[float, ...], expected: tuple[int, ...]) -> None:
    assert train.rung_steps(TrainSettings(steps=steps, rungs=rungs)) == expected


def test_training_learns_and_tells_every_metric(trainer: Callable[..., Trainer]) -> None:
    run = finish(trainer(TrainSettings(steps=60, batch=8, evaluation_tokens=256)))
    assert [rung.step for rung in run.rungs] == [15, 30, 60]
    first, last = run.rungs[0], run.rungs[-1]
    assert last.metrics["val_loss"] < first.metrics["val_loss"] < math.log(16)
    assert {*last.metrics} == {
        *("val_loss", "val_accuracy", "bits_per_char", "perplexity", "train_seconds", "tokens_per_second")
    }
    assert last.metrics["train_seconds"] == last.seconds == run.seconds > first.seconds > 0
    assert last.metrics["tokens_per_second"] == pytest.approx(60 * 8 * 8 / run.seconds)
    with pytest.raises(ValueError, match="done"):
        run.run_to_next_rung()


def test_a_seed_repeats_bitwise_and_leaves_the_global_generator_alone(trainer: Callable[..., Trainer]) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    one = finish(trainer())
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)
    same, other = finish(trainer()), finish(trainer(seed=1))
    assert_equal_weights(one.model, same.model)
    assert losses(one) == losses(same) != losses(other)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("stop", [0, 1, 3, 5, 11])
def test_interrupted_and_resumed_equals_uninterrupted(
    trainer: Callable[..., Trainer], tmp_path: Path, kind: str, stop: int
) -> None:
    settings = TrainSettings.model_validate({**SETTINGS.model_dump(), "optimiser": kind})
    whole = finish(trainer(settings))
    path = tmp_path / "trial" / "checkpoint.safetensors"
    with pytest.raises(TrainingInterrupted, match=f"step {stop} of 12"):
        finish(trainer(settings, checkpoint=path, should_stop=after(stop)))
    resumed = trainer(settings, checkpoint=path)
    assert resumed.step == stop
    assert losses(resumed) == [rung for rung in losses(whole) if rung[0] <= stop]
    finish(resumed)
    assert losses(resumed) == losses(whole)
    assert_equal_weights(resumed.model, whole.model)
    assert resumed.seconds > resumed.rungs[0].seconds


def test_a_batch_in_parts_trains_alike_and_resumes_exactly(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    settings = TrainSettings.model_validate({**SETTINGS.model_dump(), "micro_batch": 3})
    whole, parts = finish(trainer()), finish(trainer(settings))
    for ours, theirs in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert [step for step, _ in losses(parts)] == [step for step, _ in losses(whole)]
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(TrainingInterrupted):
        finish(trainer(settings, checkpoint=path, should_stop=after(5)))
    assert_equal_weights(finish(trainer(settings, checkpoint=path)).model, parts.model)


def test_a_part_is_no_larger_than_the_batch() -> None:
    with pytest.raises(ValidationError, match="micro_batch = 5 must not be above batch = 4"):
        TrainSettings(batch=4, micro_batch=5)


def test_the_identity_names_the_parts_only_where_they_are_set(trainer: Callable[..., Trainer]) -> None:
    """Checkpoints of version 0.1 do not know them, and are continued."""
    assert "micro_batch" not in trainer().identity["settings"]
    assert "recipe" not in trainer(SETTINGS.model_copy(update={"recipe": 1})).identity["settings"]
    assert trainer(SETTINGS.model_copy(update={"recipe": 2})).identity["settings"]["recipe"] == 2
    assert trainer(SETTINGS.model_copy(update={"micro_batch": 2})).identity["settings"]["micro_batch"] == 2


def test_a_finished_training_is_restored_as_done(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    run = finish(trainer(checkpoint=path))
    again = trainer(checkpoint=path)
    assert again.done
    assert (again.rungs, again.seconds) == (run.rungs, run.seconds)
    assert_equal_weights(again.model, run.model)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_the_checkpoint_says_what_it_is_in_json(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    trainer(checkpoint=path).run_to_next_rung()
    with safe_open(path, framework="pt") as file:
        told = {key: json.loads(value) for key, value in file.metadata().items()}
    assert told["identity"]["architecture"] == ARCHITECTURE.id
    assert told["identity"]["seed"] == 0
    assert told["progress"]["step"] == 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"architecture": Architecture.model_validate({"hidden": 32, "blocks": [BLOCK]})}, "architecture"),
        ({"settings": TrainSettings(steps=13, batch=4, evaluation_tokens=256)}, "settings"),
        ({"settings": TrainSettings(steps=12, batch=4, evaluation_tokens=256, micro_batch=2)}, "settings"),
        ({"learning_rate": 0.5}, "learning_rate"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused(
    trainer: Callable[..., Trainer], tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    path = tmp_path / "checkpoint"
    trainer(checkpoint=path).run_to_next_rung()
    with pytest.raises(Conflict, match=f"another training: {named} differ") as caught:
        trainer(checkpoint=path, **change)
    assert caught.value.where == str(path)


def test_a_new_time_limit_may_continue_a_checkpoint(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    trainer(checkpoint=path).run_to_next_rung()
    longer = SETTINGS.model_copy(update={"time_limit": 900.0})
    assert trainer(longer, checkpoint=path).step == 3


@pytest.mark.parametrize("damage", [lambda b: b[:100], lambda b: b[:-7], lambda b: b"", lambda b: b"\xff" * len(b)])
def test_a_broken_checkpoint_counts_as_none(
    trainer: Callable[..., Trainer],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
) -> None:
    path = tmp_path / "checkpoint"
    trainer(checkpoint=path).run_to_next_rung()
    path.write_bytes(damage(path.read_bytes()))
    again = trainer(checkpoint=path)
    assert (again.step, again.rungs) == (0, ())
    assert "training starts again" in caplog.text
    assert losses(finish(again)) == losses(finish(trainer()))


def test_a_checkpoint_that_cannot_be_written_is_told(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutOfReach) as caught:
        trainer(checkpoint=tmp_path / "file" / "checkpoint").run_to_next_rung()
    assert caught.value.code == "disk"


class Breaks(nn.Module):
    """Logits that are not a number from the third batch on, or far too sure from the start."""

    def __init__(self, vocabulary: int, value: float, good_batches: int) -> None:
        super().__init__()
        self.bias_V = nn.Parameter(torch.zeros(vocabulary))
        self.value, self.left = value, good_batches

    def forward(self, tokens_BT: Tensor) -> Tensor:
        self.left -= 1
        wrong_BTV = self.value * nn.functional.one_hot(tokens_BT, len(self.bias_V)).float()
        return self.bias_V + (wrong_BTV if self.left < 0 else 0 * wrong_BTV.nan_to_num())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_training(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr(models, "build", lambda *_, vocabulary, context, head: Breaks(vocabulary, value, 2))
    run = trainer()
    with pytest.raises(Diverged, match="at step 3"):
        run.run_to_next_rung()
    assert run.rungs == ()


@pytest.mark.parametrize(("value", "match"), [(100.0, "guessing evenly"), (math.nan, "validation loss nan")])
def test_a_validation_loss_above_the_uniform_level_ends_training(
    trainer: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, match: str
) -> None:
    monkeypatch.setattr(models, "build", lambda *_, vocabulary, context, head: Breaks(vocabulary, value, 3))
    with pytest.raises(Diverged, match=match) as caught:
        trainer(checkpoint=tmp_path / "checkpoint").run_to_next_rung()
    assert caught.value.code == "nan"
    assert not list(tmp_path.iterdir())


def test_an_early_rung_may_be_somewhat_worse_than_guessing(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "build", lambda *_, vocabulary, context, head: Breaks(vocabulary, 3.0, 0))
    run = trainer()
    assert run.run_to_next_rung().metrics["val_loss"] > math.log(run.task.vocabulary)


def test_the_time_limit_ends_training(trainer: Callable[..., Trainer]) -> None:
    run = trainer(SETTINGS.model_copy(update={"time_limit": 1e-9}))
    with pytest.raises(TimeLimit, match="1 of 12 steps") as caught:
        run.run_to_next_rung()
    assert caught.value.code == "timeout"


class Turnstile:
    """A lock that counts who holds it, and can never be held twice."""

    def __init__(self) -> None:
        self.held, self.turns = False, 0

    @contextmanager
    def training_step(self) -> Iterator[float]:
        assert not self.held
        self.held, self.turns = True, self.turns + 1
        yield 0.0
        self.held = False


def test_every_step_and_evaluation_batch_takes_its_turn(trainer: Callable[..., Trainer]) -> None:
    lock = Turnstile()
    rung = trainer(lock=lock).run_to_next_rung()
    assert isinstance(rung, Rung)
    # 256 evaluation tokens are one batch.
    assert lock.turns == rung.step + 1
    assert not lock.held


def test_several_steps_of_one_turn_train_as_one_by_one(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where the losses of a turn are read together."""
    expected = finish(trainer())
    monkeypatch.setitem(train.TURN_SECONDS, "cpu", 60.0)
    lock = Turnstile()
    found = finish(trainer(lock=lock))
    assert_equal_weights(found.model, expected.model)
    assert losses(found) == losses(expected)
    # The first step, the rest up to each of three rungs, and an evaluation at each.
    assert lock.turns == 1 + 3 + 3


def test_a_loss_that_is_not_finite_is_told_by_its_step_within_a_turn(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(train.TURN_SECONDS, "cpu", 60.0)
    monkeypatch.setattr(models, "build", lambda *_, vocabulary, context, head: Breaks(vocabulary, math.nan, 5))
    with pytest.raises(Diverged, match="at step 5"):
        finish(trainer())


def test_the_learning_rate_is_the_chosen_one_then_the_only_one_then_the_recipes(
    trainer: Callable[..., Trainer],
) -> None:
    recipe, one, two = optimiser.MATRIX_LEARNING_RATES["muon"], 0.01, 0.02

    def offering(*rates: float) -> TrainSettings:
        return SETTINGS.model_copy(update={"learning_rate": rates})

    chosen = losses(finish(trainer(learning_rate=one)))
    assert losses(finish(trainer(offering(one)))) == chosen
    assert losses(finish(trainer(offering(two, one), learning_rate=one))) == chosen
    assert losses(finish(trainer())) == losses(finish(trainer(learning_rate=recipe))) != chosen
    with pytest.raises(UsageError, match="several learning rates"):
        trainer(offering(one, two))


def test_weights_are_saved_and_loaded(trainer: Callable[..., Trainer], task: Task, tmp_path: Path) -> None:
    run = trainer()
    rung = run.run_to_next_rung()
    folder = tmp_path / "trained"
    artifact.save_weights(folder, run.model, ARCHITECTURE, coder=task.coder, context=task.context, metrics=rung.metrics)
    assert sorted(file.name for file in folder.iterdir()) == [
        *("architecture.json", "metrics.json", "model.safetensors", "vocabulary.json")
    ]
    assert json.loads((folder / "metrics.json").read_text()) == rung.metrics
    trained = read_model(folder)
    model, coder = trained.module, trained.coder
    assert coder.symbols == task.coder.symbols
    assert not model.training
    (tokens_BT,), _ = task.batch(torch.Generator().manual_seed(0), 2, "cpu")
    with torch.inference_mode():
        assert torch.equal(model(tokens_BT), run.model.eval()(tokens_BT))


@pytest.mark.parametrize("name", ["architecture.json", "vocabulary.json", "model.safetensors"])
def test_an_incomplete_folder_of_weights_is_refused(
    trainer: Callable[..., Trainer], task: Task, tmp_path: Path, name: str
) -> None:
    run = trainer()
    artifact.save_weights(tmp_path, run.model, ARCHITECTURE, coder=task.coder, context=8, metrics={})
    (tmp_path / name).unlink()
    with pytest.raises(DataError) as caught:
        read_model(tmp_path)
    assert name in caught.value.detail


def test_weights_beside_another_architecture_are_refused(
    trainer: Callable[..., Trainer], task: Task, tmp_path: Path
) -> None:
    run = trainer()
    artifact.save_weights(tmp_path, run.model, ARCHITECTURE, coder=task.coder, context=8, metrics={})
    other = Architecture.model_validate({"hidden": 32, "blocks": [BLOCK]})
    files.write_json(tmp_path / "architecture.json", other.model_dump(mode="json"))
    with pytest.raises(DataError, match="another architecture"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    "progress",
    [
        None,
        {"step": 10**9, "seconds": 1.0, "rungs": []},
        {"step": -1, "seconds": 1.0, "rungs": []},
        {"step": "3", "seconds": 1.0, "rungs": []},
        {"step": 12, "seconds": 1.0, "rungs": []},
        {"step": 1, "seconds": float("nan"), "rungs": []},
        {"step": 1, "seconds": 1.0, "rungs": [{"step": 1}]},
    ],
)
def test_progress_that_cannot_be_is_told_and_training_starts_anew(trainer, tmp_path, progress) -> None:
    path = tmp_path / "checkpoint.safetensors"
    first = trainer(checkpoint=path)
    first.run_to_next_rung()
    tensors, metadata = artifact.read_tensors(path)
    metadata = metadata | {"progress": progress} if progress else {"identity": metadata["identity"]}
    artifact.write_tensors(path, tensors, metadata)
    again = trainer(checkpoint=path)
    assert (again.step, again.rungs) == (0, ())
    assert "progress" in again.anew
    assert_equal_weights(again.model, trainer().model)
