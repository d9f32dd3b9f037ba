"""Classes of texts: read from a table, learned, scored beside their floors; padding changes nothing."""

import json
import math
import os

import pytest
import torch
from sklearn.metrics import f1_score

from nas.architecture import Architecture
from nas.errors import DataError
from nas.kinds import ATTENTION_SPECS
from nas.settings.study_settings import TrainSettings
from nas.settings.task_settings import TableTask
from nas.tasks import model_of, open_task, table
from nas.training import model_folder as artifact
from nas.training.trained_model import read_model
from nas.training.trainer import Trainer

GOOD, BAD = ("lovely", "happy", "great"), ("awful", "sad", "poor")


@pytest.fixture
def corpus(tmp_path):
    """Texts of different lengths whose class one word in them tells."""
    generator = torch.Generator().manual_seed(0)

    def draw(count):
        return int(torch.randint(count, (1,), generator=generator))

    rows = []
    for number in range(240):
        good = draw(3) > 0
        words = [f"word{draw(20)}" for _ in range(draw(12))]
        words.insert(draw(len(words) + 1), (GOOD if good else BAD)[draw(3)])
        rows.append({"id": number, "tweet": " ".join([*words, f"n{number}"]), "feels": "good" if good else "bad"})
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def settings(corpus, **keys):
    columns = {"text": "tweet", "label": "feels"}
    return TableTask(
        **{"kind": "sentiment", "corpus": corpus, "columns": columns, "context": 32, "subwords": 400, **keys}
    )


def encoder(kind, **keys):
    spec = {"kind": kind, **({"heads": 2} if "heads" in ATTENTION_SPECS[kind].model_fields else {})}
    block = {"attention": spec, "position": "none", "feed_forward": {"kind": "swiglu", "ratio": 2.0}}
    return Architecture.model_validate({"family": "encoder", "hidden": 32, "blocks": [block], **keys})


def test_the_data_are_described(corpus):
    told = open_task(settings(corpus)).describe()
    assert told["classes"] == ["bad", "good"]
    assert sum(told["splits"].values()) == 240
    assert told["left_out"] == 0
    assert told["too_long"] == {"train": 0, "val": 0, "test": 0}


def test_what_is_longer_than_the_context_is_cut_off_and_counted(corpus):
    task = open_task(settings(corpus, context=4))
    assert sum(task.describe()["too_long"].values()) > 100
    (tokens_BT, _), _ = task.batch(torch.Generator().manual_seed(0), 16)
    assert tokens_BT.size(1) <= 4


def test_the_largest_batch_is_of_the_longest(corpus):
    task, generator = open_task(settings(corpus)), torch.Generator().manual_seed(0)
    (tokens_BT, padding_BT), _ = task.largest(8)
    assert len(tokens_BT) == 8
    others = [(~task.batch(generator, 8)[0][1]).sum() for _ in range(50)]
    assert (~padding_BT).sum() >= max(others)


def test_a_batch_holds_texts_of_about_one_length_and_each_is_as_likely(corpus):
    task, generator = open_task(settings(corpus)), torch.Generator().manual_seed(0)
    spread, seen = [], torch.zeros(len(task.lengths("train")))
    for _ in range(400):
        (_, padding_BT), _ = task.batch(generator, 8)
        lengths_B = (~padding_BT).sum(dim=1)
        spread.append(int(lengths_B.max() - lengths_B.min()))
    for _ in range(2000):
        seen[table.drawn(task.lengths("train"), generator, 8)] += 1
    assert sum(spread) / len(spread) < 0.3 * int(task.lengths("train").max() - task.lengths("train").min())
    short, long = (seen[task.lengths("train").argsort()][part].mean() for part in (slice(0, 60), slice(-60, None)))
    assert short.item() == pytest.approx(long.item(), rel=0.1)


@pytest.mark.parametrize("pooling", ["mean", "first"])
@pytest.mark.parametrize("kind", [kind for kind, spec in ATTENTION_SPECS.items() if "bidirectional" in spec.forms])
def test_padding_changes_no_result(corpus, kind, pooling):
    task = open_task(settings(corpus))
    torch.manual_seed(0)
    model = model_of(encoder(kind, pooling=pooling), task).eval()
    torch.nn.init.normal_(model.classes.weight)
    (tokens_BT, padding_BT), _ = task.batch(torch.Generator().manual_seed(0), 8)
    with torch.inference_mode():
        together_BC = model(tokens_BT, padding_BT)
        alone_BC = torch.cat([model(t[~p][None]) for t, p in zip(tokens_BT, padding_BT, strict=True)])
    torch.testing.assert_close(together_BC, alone_BC, rtol=1e-4, atol=1e-5)


def test_an_encoder_learns_the_word_that_tells(corpus):
    task = open_task(settings(corpus))
    training = TrainSettings(steps=120, batch=16, rungs=(1.0,))
    trained = Trainer(encoder("softmax"), task, training, seed=0).run_to_next_rung().metrics
    assert trained["val_accuracy"] > 0.9
    assert trained["val_loss"] < math.log(2) / 2
    assert trained["macro_f1"] > 0.9


def test_a_classifier_that_tells_wrong_with_confidence_has_not_diverged(corpus):
    task = open_task(settings(corpus))
    training = TrainSettings(steps=2, batch=4, rungs=(1.0,))
    trainer = Trainer(encoder("softmax"), task, training, seed=0)
    trainer.model.classes.bias.data = torch.tensor([50.0, -50.0])
    trained = trainer.run_to_next_rung().metrics
    assert trained["val_loss"] > 10 * task.guessing


def test_a_trained_classifier_is_saved_with_its_classes(corpus, tmp_path):
    task = open_task(settings(corpus))
    trainer = Trainer(encoder("softmax"), task, TrainSettings(steps=2, batch=4, rungs=(1.0,)), seed=0)
    trainer.run_to_next_rung()
    folder, about = tmp_path / "weights", {"coder": task.coder, "context": task.context, "head": task.head}
    artifact.save_weights(folder, trainer.model, trainer.architecture, metrics={}, **about)
    trained = read_model(folder)
    model, coder = trained.module, trained.coder
    inputs, _ = task.batch(torch.Generator().manual_seed(0), 4)
    with torch.inference_mode():
        assert torch.equal(model(*inputs), trainer.model.eval()(*inputs))
    assert json.loads((folder / "vocabulary.json").read_text())["head"]["classes"] == ["bad", "good"]
    assert coder.encode("a lovely word1") == task.coder.encode("a lovely word1")


def test_metrics_are_those_of_all_texts_at_once(corpus):
    task = open_task(settings(corpus))
    torch.manual_seed(1)
    model = model_of(encoder("softmax"), task)
    torch.nn.init.normal_(model.classes.weight)
    found = task.evaluate(model, "test", max_tokens=10**6)
    logits, labels = [], []
    with torch.inference_mode():
        for _, ((tokens_BT, padding_BT), labels_B) in task.evaluation("test", 10**6, 1):
            logits.append(model(tokens_BT, padding_BT))
            labels.append(labels_B)
    logits_NC, labels_N = torch.cat(logits), torch.cat(labels)
    assert len(labels_N) == task.describe()["splits"]["test"]
    assert found["test_loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits_NC, labels_N).item(), rel=1e-5)
    assert found["test_accuracy"] == pytest.approx((logits_NC.argmax(1) == labels_N).float().mean().item())
    assert found["test_macro_f1"] == pytest.approx(f1_score(labels_N, logits_NC.argmax(1), average="macro"))


def test_scores_are_those_of_each_text_in_the_order_of_the_data(corpus):
    task = open_task(settings(corpus))
    model = model_of(encoder("softmax"), task)
    torch.nn.init.normal_(model.classes.weight)
    found = task.examine(model, "test", max_tokens=10**6)
    with torch.inference_mode():
        told = [model(*task.held("test", [number])[0]).argmax().item() for number in range(len(task.labels["test"]))]
    right = [float(label == truth) for label, truth in zip(told, task.labels["test"].tolist(), strict=True)]
    assert 0 < sum(right) < len(right)
    assert found.scores["accuracy"] == right
    floors, guesses = task.floors("test"), task.guesses("test")
    assert {name: sum(scores["accuracy"]) / len(right) for name, scores in guesses.items()} == pytest.approx(
        {name: told["accuracy"] for name, told in floors.items()}
    )


def test_the_floors_are_scored_on_the_same_split(corpus):
    task = open_task(settings(corpus))
    floors = task.floors("test")
    true = [row["label"] for row in task.data.of("test")]
    assert floors["majority"]["accuracy"] == pytest.approx(true.count("good") / len(true))
    assert floors["TF-IDF, logistic regression"]["accuracy"] > 0.9


def test_a_class_that_training_lacks_is_told_with_its_row(tmp_path):
    lines = [json.dumps({"text": f"t{i}", "label": i % 2, "split": "train"}) for i in range(4)]
    lines += ['{"text": "a", "label": 0, "split": "val"}', '{"text": "b", "label": 7, "split": "test"}']
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match="line 6: label is '7', which no training row has"):
        open_task(TableTask(kind="sentiment", corpus=str(path)))


def test_one_class_alone_is_refused(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("text,label,split\na,1,train\nb,1,val\nc,1,test\n")
    with pytest.raises(DataError, match="a single class cannot be learned"):
        open_task(TableTask(kind="sentiment", corpus=str(path)))


@pytest.mark.skipif("NAS_DATA_DIR" not in os.environ, reason="NAS_DATA_DIR names no folder with the tweets")
def test_the_tweets_and_their_floors():
    task = open_task(TableTask(kind="sentiment"))
    assert task.describe()["splits"] == {"train": 3388, "val": 410, "test": 402}
    floors = task.floors("test")
    assert floors["majority"]["accuracy"] == pytest.approx(0.677, abs=0.001)
    assert floors["TF-IDF, logistic regression"]["accuracy"] == pytest.approx(0.858, abs=0.01)
