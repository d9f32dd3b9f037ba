"""Sentences and their translations: read, learned, written and scored."""

import json
import os

import pytest
import torch

from nas.architecture import Architecture
from nas.errors import DataError
from nas.settings.study_settings import TrainSettings
from nas.settings.task_settings import TableTask
from nas.tasks import model_of, open_task
from nas.tasks.token_task import IGNORED
from nas.training.trainer import Trainer

WORDS = {"one": "un", "two": "deux", "three": "trois", "four": "quatre", "five": "cinq", "six": "six", "cat": "chat"}


@pytest.fixture
def corpus(tmp_path):
    """Word by word."""
    generator, pairs = torch.Generator().manual_seed(0), {}
    while len(pairs) < 600:
        length = 2 + int(torch.randint(4, (1,), generator=generator))
        chosen = [list(WORDS)[i] for i in torch.randint(len(WORDS), (length,), generator=generator)]
        pairs[" ".join(chosen)] = " ".join(WORDS[word] for word in chosen)
    lines = [json.dumps({"source": source, "target": target}) for source, target in pairs.items()]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join([*lines, json.dumps({"source": "one two", "target": "une deux"})]), encoding="utf-8")
    return str(path)


def settings(corpus, **keys):
    return TableTask(**{"kind": "translation", "corpus": corpus, "context": 16, "subwords": 300, **keys})


def model_with_source(family="encoder_decoder"):
    attention = {"kind": "softmax", "heads": 2} if family == "encoder_decoder" else {"kind": "lstm"}
    block = {"attention": attention}
    if family == "recurrent":
        block |= {"position": "none", "norm": "rms", "feed_forward": {"kind": "none"}}
    crossing = {**block, "cross": {"kind": "softmax", "heads": 2}}
    return Architecture.model_validate(
        {"family": family, "hidden": 48, "encoder_blocks": [block], "blocks": [crossing]}
    )


def test_answers_are_shifted_and_ended(corpus):
    task = open_task(settings(corpus))
    (source_BS, written_BT, padding_BS), targets_BT = task.batch(torch.Generator().manual_seed(0), 8)
    for source, padding, written, targets in zip(source_BS, padding_BS, written_BT, targets_BT, strict=True):
        answer = targets[targets != IGNORED].tolist()
        assert answer[-1] == task.end
        assert written[: len(answer)].tolist() == [task.start, *answer[:-1]]
        words = task.coder.decode(source[~padding].tolist()).split()
        assert task.coder.decode(answer[:-1]) in (" ".join(WORDS[word] for word in words), "une deux")


def test_what_does_not_fit_is_not_trained_on_and_counted(corpus):
    task = open_task(settings(corpus, context=4))
    assert task.describe()["too_long"]["train"] > 0
    for pair in task.pairs["train"]:
        assert len(pair.source) <= 4
        assert len(pair.target) < 4
    (source_BS, written_BT, _), targets_BT = next(task.evaluation("val", 10**6, 64))
    assert max(source_BS.size(1), written_BT.size(1), targets_BT.size(1)) <= 4


def test_a_context_that_no_pair_fits_is_refused(corpus):
    with pytest.raises(DataError, match="no pair of the training split fits a context of 2 tokens") as caught:
        open_task(settings(corpus, context=2))
    assert caught.value.where == "task.context"
    assert "the shortest pair needs" in caught.value.help


def test_the_largest_batch_is_of_the_longest(corpus):
    task, generator = open_task(settings(corpus)), torch.Generator().manual_seed(0)

    def tokens(batch):
        (_, _, padding_BS), targets_BT = batch
        return (~padding_BS).sum() + (targets_BT >= 0).sum()

    assert tokens(task.largest(8)) >= max(tokens(task.batch(generator, 8)) for _ in range(50))


def test_all_translations_of_a_sentence_are_right(corpus):
    task = open_task(settings(corpus))
    for split in ("train", "val", "test"):
        sources, references = task.asked(split)
        assert len(sources) == len(set(sources))
        if "one two" in sources:
            assert references[sources.index("one two")] == ["un deux", "une deux"]
    told = [", ".join(answers[-1:]) for answers in references]
    assert task.judged(told, references, sources)[0]["bleu"] == pytest.approx(100)


def test_padding_changes_no_result(corpus):
    task = open_task(settings(corpus))
    torch.manual_seed(0)
    model = model_of(model_with_source(), task).eval()
    (source_BS, written_BT, padding_BS), targets_BT = task.batch(torch.Generator().manual_seed(0), 8)
    with torch.inference_mode():
        together_BTV = model(source_BS, written_BT, padding_BS)
        for i in range(8):
            length = int((targets_BT[i] != IGNORED).sum())
            alone_1TV = model(source_BS[i][~padding_BS[i]][None], written_BT[i, :length][None])
            torch.testing.assert_close(together_BTV[i, :length], alone_1TV[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_model_learns_to_translate_and_its_scores_are_of_what_it_writes(corpus):
    task = open_task(settings(corpus))
    training = TrainSettings(steps=180, batch=32, rungs=(1.0,))
    trainer = Trainer(model_with_source(), task, training, seed=0)
    trained = trainer.run_to_next_rung().metrics
    floor = task.floors("val")["copy"]
    assert trained["bleu"] > 60 > floor["bleu"] + 30
    assert trained["chrf"] > floor["chrf"]
    sources, references = task.asked("val")
    told = []
    for source in sources:
        coded = torch.tensor([task.coder.encode(source)])
        row = trainer.model.generate(coded, task.longest, task.start, task.end)[0].tolist()
        told.append(task.coder.decode(row[: row.index(task.end)] if task.end in row else row))
    # Alone and in a batch, rounding may prefer either of two words that are as likely.
    assert task.judged(told, references, sources)[0]["bleu"] == pytest.approx(trained["bleu"], abs=1)
    assert trained["bleu:10"] == pytest.approx(trained["bleu"])


def test_the_signatures_are_told(corpus):
    told = open_task(settings(corpus)).describe()["signatures"]
    assert "tok:13a" in told["BLEU"]
    assert "version:" in told["CHRF"]


@pytest.mark.skipif("NAS_DATA_DIR" not in os.environ, reason="NAS_DATA_DIR names no folder with Tatoeba")
def test_tatoeba_has_whole_sentences_and_many_translations():
    task = open_task(TableTask(kind="translation", context=24, subwords=4000))
    told = task.describe()
    assert sum(told["splits"].values()) == 142_652
    sources, references = task.asked("test")
    assert len(sources) < sum(map(len, references))
    assert told["too_long"]["train"] < 0.02 * told["splits"]["train"]
    assert task.judged(list(sources), references, sources)[0]["bleu"] < 5
