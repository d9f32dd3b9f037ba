"""Masked-token modelling: what is hidden, what counts, and that an encoder learns from it."""

import pytest
import torch

from nas.settings.task_settings import TextTask
from nas.tasks import Task, open_task
from nas.tasks.token_task import IGNORED

TEXT = "".join(chr(97 + i * i % 26) for i in range(2000))


@pytest.fixture
def task(tmp_path) -> Task:
    (tmp_path / "text.txt").write_text(TEXT)
    return open_task(TextTask(kind="masked_language_modelling", corpus=str(tmp_path / "text.txt"), context=16))


def test_the_mask_is_one_more_symbol(task):
    assert task.coder.symbols == [*sorted(set(TEXT)), "<mask>"]
    assert task.vocabulary == len(set(TEXT)) + 1


def test_about_fifteen_in_a_hundred_are_to_predict_and_most_of_them_hidden(task):
    (shown_BT,), targets_BT = task.batch(torch.Generator().manual_seed(0), 2000, "cpu")
    chosen = targets_BT != IGNORED
    mask = task.coder.symbols.index("<mask>")
    # Of 32,000 characters 15 % are chosen; a window without any gets its first.
    assert chosen.float().mean().item() == pytest.approx(0.15 + 0.85**16 / 16, abs=0.01)
    assert chosen.any(dim=1).all()
    assert (shown_BT[chosen] == mask).float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (shown_BT[chosen] == targets_BT[chosen]).float().mean().item() == pytest.approx(0.1 + 0.1 / 20, abs=0.02)
    assert mask not in shown_BT[~chosen]


def test_what_is_not_hidden_is_the_text(task):
    (shown_BT,), targets_BT = task.batch(torch.Generator().manual_seed(1), 50, "cpu")
    true_BT = torch.where(targets_BT == IGNORED, shown_BT, targets_BT)
    assert all(task.coder.decode(row.tolist()) in TEXT[:1600] for row in true_BT)


def test_evaluation_hides_the_same_at_every_call(task):
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, tokens_BT):
            seen.append(tokens_BT)
            return torch.zeros(*tokens_BT.shape, task.vocabulary)

    first, second = task.evaluate(Spy()), task.evaluate(Spy())
    assert first == second
    assert torch.equal(seen[0], seen[1])
    assert first.keys() == {"val_loss", "val_accuracy", "perplexity"}
    assert first["perplexity"] == pytest.approx(task.vocabulary)
