"""Summaries: scored by ROUGE against all references, beside sentences of the text itself."""

import json
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.architecture import Architecture
from nas.models import CopyingEncoderDecoder
from nas.settings.study_settings import TrainSettings
from nas.settings.task_settings import TableTask
from nas.tasks import model_of, open_task
from nas.tasks.summarisation import Words
from nas.training.trainer import Trainer

BLOCK = {"attention": {"kind": "softmax", "heads": 2}}
ARCHITECTURE = Architecture.model_validate(
    {
        "family": "encoder_decoder",
        "hidden": 48,
        "encoder_blocks": [BLOCK],
        "blocks": [{**BLOCK, "cross": {"kind": "softmax", "heads": 2}}],
    }
)


@pytest.fixture
def corpus(tmp_path):
    """The summary is what stands behind 'Result:'."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(500):
        words = [f"w{int(i)}" for i in torch.randint(60, (8,), generator=generator)]
        result = " ".join(words[2:5])
        document = f"We study {words[0]} {words[1]} {number}. Result: {result}. More {words[5]}."
        rows.append({"document": document, "summary": [result, f"about {words[2]}"]})
    path = tmp_path / "abstracts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def settings(corpus, **keys):
    return TableTask(**{"kind": "summarisation", "corpus": corpus, "context": 48, "subwords": 400, **keys})


def test_the_nearest_summary_counts(corpus):
    task = open_task(settings(corpus))
    found, each = task.judged(["w1 w2 about"], [["w1 w2 w3", "about w1"]], ["..."])
    from rouge_score.rouge_scorer import RougeScorer  # half a second of NLTK

    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
    scores = [scorer.score(summary, "w1 w2 about") for summary in ("w1 w2 w3", "about w1")]
    assert found["rouge_1"] == pytest.approx(100 * max(score["rouge1"].fmeasure for score in scores))
    assert found["rouge_l"] == pytest.approx(100 * max(score["rougeL"].fmeasure for score in scores))
    assert {name: sum(values) for name, values in each.items()} == pytest.approx(found)


@pytest.mark.parametrize("text", ["Привет, мир!", "北京 天气", "naïve café"])
def test_words_of_every_script_count(corpus, text):
    found, _ = open_task(settings(corpus)).judged([text], [[text]], ["..."])
    assert found["rouge_1"] == found["rouge_l"] == 100


@given(st.text(st.characters(codec="ascii")))
def test_words_in_ascii_are_those_of_rouge_score(text):
    from rouge_score.tokenizers import DefaultTokenizer

    assert Words().tokenize(text) == DefaultTokenizer(use_stemmer=False).tokenize(text)


def test_long_abstracts_lose_their_end_and_are_trained_on(corpus):
    task = open_task(settings(corpus, context=12))
    told = task.describe()
    assert 0 <= told["splits"]["train"] - len(task.pairs["train"]) < told["too_long"]["train"]
    assert max(len(pair.source) for pair in task.pairs["train"]) > 12
    (source_BS, _, _), _ = task.batch(torch.Generator().manual_seed(0), 8)
    assert source_BS.size(1) == 12


def test_the_floors_are_sentences_of_the_text(corpus):
    task = open_task(settings(corpus))
    sources, _ = task.asked("val")
    told = task.simple(sources)
    for source, first, other in zip(sources, told["first sentence"], told["any sentence"], strict=True):
        assert source.startswith(first)
        assert first.endswith(".")
        assert other in source
    assert told == task.simple(sources)


@pytest.mark.slow
def test_a_model_learns_to_copy_what_matters(corpus):
    task = open_task(settings(corpus))
    assert isinstance(model_of(ARCHITECTURE, task), CopyingEncoderDecoder)
    trainer = Trainer(ARCHITECTURE, task, TrainSettings(steps=120, batch=32, rungs=(1.0,)), seed=0)
    trained, floors = trainer.run_to_next_rung().metrics, task.floors("val")
    assert trained["rouge_l"] > 10 + max(floors[name]["rouge_l"] for name in floors)


@pytest.mark.skipif("NAS_DATA_DIR" not in os.environ, reason="NAS_DATA_DIR names no folder with SciTLDR")
def test_the_first_sentence_scores_what_others_told():
    """SciTLDR's first sentence as the summary: ROUGE-1/2/L 28.3/11.3/23.0 on the test split."""
    floors = open_task(TableTask(kind="summarisation", context=256, subwords=2000)).floors("test")
    first = floors["first sentence"]
    assert (first["rouge_1"], first["rouge_2"], first["rouge_l"]) == pytest.approx((28.3, 11.3, 23.0), abs=0.1)
    assert floors["any sentence"]["rouge_l"] < first["rouge_l"]
