"""Language modelling: batches, evaluation and floors."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nas.errors import DataError
from nas.settings.task_settings import TextTask
from nas.tasks import Split, Task, open_task

TEXT = "".join(chr(97 + i * i % 26) for i in range(2000))


@pytest.fixture
def task(tmp_path: Path) -> Task:
    (tmp_path / "text.txt").write_text(TEXT)
    return open_task(TextTask(corpus=str(tmp_path / "text.txt"), context=16))


class Knows(nn.Module):
    """Gives all its belief to what the text says next, as it sees the windows in order."""

    def __init__(self, vocabulary: int, confidence: float) -> None:
        super().__init__()
        self.vocabulary, self.confidence = vocabulary, confidence
        self.seen: list[Tensor] = []

    def forward(self, tokens_BT: Tensor) -> Tensor:
        self.seen.append(tokens_BT)
        following_BT = torch.roll(tokens_BT, -1, dims=1)
        return self.confidence * nn.functional.one_hot(following_BT, self.vocabulary).float()


def test_the_description_is_that_of_the_text(task: Task) -> None:
    told = task.describe()
    assert (told["characters"], told["vocabulary"]) == (2000, len(set(TEXT)))
    assert told["splits"] == {"train": [0, 1600], "val": [1600, 1800], "test": [1800, 2000]}
    assert task.coder.symbols == sorted(set(TEXT))


def test_tokens_that_training_never_shows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("hello " * 1500 + "\u043c\u0438\u0440 " * 250, encoding="utf-8")
    told = open_task(TextTask(corpus=str(tmp_path / "two.txt"), context=8)).describe()
    assert told["unseen"] == {"val": 0, "test": 750}


def test_encode_and_decode(task: Task) -> None:
    assert task.coder.decode(task.coder.encode(TEXT[:50])) == TEXT[:50]
    with pytest.raises(DataError, match="'!' is not in the vocabulary"):
        task.coder.encode("ab!")


def test_batches_are_windows_of_the_train_split(task: Task) -> None:
    (inputs_BT,), targets_BT = task.batch(torch.Generator().manual_seed(0), 200, "cpu")
    assert inputs_BT.shape == targets_BT.shape == (200, 16)
    for inputs_T, targets_T in zip(inputs_BT, targets_BT, strict=True):
        assert task.coder.decode([*inputs_T.tolist(), int(targets_T[-1])]) in TEXT[:1600]
    assert torch.equal(inputs_BT[:, 1:], targets_BT[:, :-1])


def test_equal_generators_draw_equal_batches(task: Task) -> None:
    one, same, other = (task.batch(torch.Generator().manual_seed(seed), 8, "cpu")[0][0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("split", "start", "end"), [("val", 1600, 1800), ("test", 1800, 2000)])
@pytest.mark.parametrize(("max_tokens", "windows"), [(1, 1), (80, 5), (10_000, 12)])
def test_evaluation_windows_lie_apart_in_their_split(
    task: Task, split: Split, start: int, end: int, max_tokens: int, windows: int
) -> None:
    model = Knows(task.vocabulary, 1.0)
    task.evaluate(model, split, max_tokens)
    tokens = task.coder.encode(TEXT)
    allowed = {tuple(tokens[i : i + 16]) for i in range(start, end - 16)}
    read = [tuple(row) for batch in model.seen for row in batch.tolist()]
    assert len(read) == windows
    assert set(read) <= allowed
    if windows == 12:
        assert [t for row in read for t in row] == tokens[start : start + 12 * 16]


def test_metrics_of_a_model_that_knows_nothing(task: Task) -> None:
    metrics = task.evaluate(Knows(task.vocabulary, 0.0), "val")
    assert metrics["val_loss"] == pytest.approx(math.log(task.vocabulary))
    assert metrics["bits_per_char"] == pytest.approx(math.log2(task.vocabulary))
    assert metrics["perplexity"] == pytest.approx(task.vocabulary)


def test_accuracy_counts_what_is_predicted_right(task: Task) -> None:
    model = Knows(task.vocabulary, 50.0)
    accuracy = task.evaluate(model, "val")["val_accuracy"]
    wrong = sum(TEXT[1600 + 16 * (w + 1)] != TEXT[1600 + 16 * w] for w in range(12))
    assert accuracy == pytest.approx(1 - wrong / (12 * 16))


def test_the_metrics_of_the_test_split_have_names_of_their_own(task: Task) -> None:
    names = set(task.evaluate(Knows(task.vocabulary, 1.0), "test"))
    assert names == {"test_loss", "test_accuracy", "test_bits_per_char", "test_perplexity"}


def test_evaluation_takes_turns_and_leaves_the_mode_as_it_was(task: Task) -> None:
    turns: list[str] = []

    @contextmanager
    def turn() -> Iterator[None]:
        turns.append("begin")
        yield
        turns.append("end")

    model = Knows(task.vocabulary, 1.0).train()
    task.evaluate(model, "val", turn=turn)
    assert turns == ["begin", "end"] * len(model.seen)
    assert model.training


def test_the_loss_is_the_mean_cross_entropy(task: Task) -> None:
    inputs, targets_BT = task.batch(torch.Generator().manual_seed(0), 4, "cpu")
    loss = task.loss(Knows(task.vocabulary, 0.0), inputs, targets_BT)
    assert loss.item() == pytest.approx(math.log(task.vocabulary))


def floors(settings: TextTask, split: Split) -> dict[str, float]:
    return {name: round(told["loss"], 3) for name, told in open_task(settings).floors(split).items()}


PUBLISHED = "the figures are those of the text that CPython 3.11 carries"


@pytest.mark.skipif(open_task(TextTask()).describe()["characters"] != 465_048, reason=PUBLISHED)
def test_the_floors_of_the_python_docs() -> None:
    last_tenth = floors(TextTask(split="90/10"), "test")
    assert (last_tenth["2-gram"], last_tenth["3-gram"]) == (2.318, 1.712)
    assert last_tenth["5-gram"] == 1.320
    assert floors(TextTask(), "val")["2-gram"] == 2.454


@pytest.mark.skipif("NAS_DATA_DIR" not in os.environ, reason="NAS_DATA_DIR names no folder with tinyshakespeare")
def test_the_floors_of_tinyshakespeare() -> None:
    told = floors(TextTask(corpus="tinyshakespeare", split="90/10"), "test")
    del told["4-gram"]
    assert told == {"1-gram": 3.347, "2-gram": 2.486, "3-gram": 2.049, "5-gram": 1.669}


@pytest.fixture
def subwords(tmp_path: Path) -> Task:
    """The same text in subwords, learned from its train split."""
    (tmp_path / "text.txt").write_text(TEXT * 4, encoding="utf-8")
    return open_task(TextTask(corpus=str(tmp_path / "text.txt"), context=16, subwords=280))


def test_subwords_cover_each_split_and_no_more(subwords: Task) -> None:
    text, spans = TEXT * 4, subwords.describe()["splits"]
    for split, (start, end) in subwords.splits.items():
        tokens = subwords.tokens_N[start:end].tolist()
        assert subwords.coder.decode(tokens) == text[slice(*spans[split])]
    assert len(subwords.tokens_N) < len(text)
    assert subwords.vocabulary <= 280


def test_bits_per_character_compare_across_vocabularies(subwords: Task) -> None:
    told = subwords.evaluate(Knows(subwords.vocabulary, 0.0), "val")
    start, end = subwords.splits["val"]
    characters = subwords.describe()["splits"]["val"]
    expected = math.log2(subwords.vocabulary) * (end - start) / (characters[1] - characters[0])
    assert told["bits_per_char"] == pytest.approx(expected)
    floor = subwords.floors("val")["2-gram"]
    assert floor["bits_per_char"] == pytest.approx(subwords.bits_per_char("val", floor["loss"]))


def test_a_text_with_too_few_subwords_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be " * 20, encoding="utf-8")
    with pytest.raises(DataError, match="too short") as caught:
        open_task(TextTask(corpus=str(tmp_path / "text.txt"), context=30, subwords=300))
    assert "subwords leave" in caught.value.detail
