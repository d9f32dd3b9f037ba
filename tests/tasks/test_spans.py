"""Copying and reversing spans: what is read, what is to be written, and what is padding."""

import pytest
import torch

from nas.settings.task_settings import TextTask
from nas.tasks import Task, open_task
from nas.tasks.token_task import IGNORED

TEXT = "".join(chr(97 + i * i % 26) for i in range(2000))


def task_of(tmp_path, kind: str) -> Task:
    (tmp_path / "text.txt").write_text(TEXT)
    return open_task(TextTask(kind=kind, corpus=str(tmp_path / "text.txt"), context=16))


@pytest.mark.parametrize("kind", ["copy_spans", "reverse_spans"])
def test_the_answer_is_the_span_and_an_end(tmp_path, kind):
    task = task_of(tmp_path, kind)
    pad, start, end = (task.coder.symbols.index(symbol) for symbol in ("<pad>", "<start>", "<end>"))
    (source_BT, written_BT, padding_BT), targets_BT = task.batch(torch.Generator().manual_seed(0), 300, "cpu")
    lengths = set()
    for source, written, padding, targets in zip(source_BT, written_BT, padding_BT, targets_BT, strict=True):
        span = source[~padding].tolist()
        lengths.add(len(span))
        assert task.coder.decode(span) in TEXT[:1600]
        assert (source[padding] == pad).all()
        answer = span if kind == "copy_spans" else span[::-1]
        n = len(span)
        assert targets.tolist() == [*answer, end, *[IGNORED] * (15 - n)]
        assert written.tolist() == [start, *answer, *[pad] * (15 - n)]
    assert lengths == set(range(1, 16))


def test_whole_answers_are_counted(tmp_path):
    task = task_of(tmp_path, "copy_spans")

    class Copies(torch.nn.Module):
        """Right about everything but the end of long spans."""

        def forward(self, source_BT, written_BT, padding_BT):
            end = task.coder.symbols.index("<end>")
            length_B1 = (~padding_BT).sum(dim=1, keepdim=True)
            said_BT = torch.where((torch.arange(16) == length_B1) & (length_B1 < 8), end, source_BT)
            return 50.0 * torch.nn.functional.one_hot(said_BT, task.vocabulary)

    metrics = task.evaluate(Copies())
    assert metrics.keys() == {"val_loss", "val_accuracy", "exact_match"}
    assert 0 < metrics["exact_match"] < metrics["val_accuracy"] < 1
    assert "test_exact_match" in task.evaluate(Copies(), "test")
